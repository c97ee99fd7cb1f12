//! The way from the page to the processes that it shows.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::seen::clients::{ClientsAnswer, ClientsQuestion};
use crate::seen::whole::Whole;

/// Whoever knows how all processes are.
pub trait Lookout: Send + Sync + 'static {
    /// Every other second how all are, for as long as somebody holds one of these: meanwhile the others report to this process.
    fn look(&self) -> watch::Receiver<Arc<Whole>>;

    /// Asks for 신경's clients, here or in another process that serves 신경.
    fn clients(&self, question: ClientsQuestion) -> BoxFuture<'static, Result<ClientsAnswer, ClientsError>>;
}

/// Why there is no answer about clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientsError {
    /// There are none.
    #[error("no process of this group serves 신경: SINGYEONG_ADDRESS is not set")]
    Off,
    /// It could not be asked, or did not answer.
    #[error("no process that serves 신경 answers")]
    NoAnswer,
}
