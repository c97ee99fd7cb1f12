//! Goes through many clients without keeping others waiting: one thread serves all.

use std::sync::Arc;

use crate::singyeong::client::Client;

/// After so many clients others get their turn.
const CLIENTS_A_TURN: usize = 100;

/// Takes one after the other.
pub async fn each(clients: &[Arc<Client>], mut take: impl FnMut(&Client)) {
    for some in clients.chunks(CLIENTS_A_TURN) {
        some.iter().for_each(|client| take(client));
        tokio::task::yield_now().await;
    }
}
