//! Discord, asked where its gateway is before anything can start.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{FIRST_RETRY, LONGEST_RETRY, Service, ServiceError, until};
use crate::config;
use crate::discord::gateway_url::GatewayUrl;
use crate::discord::rest::{self, RestError};
use crate::discord::rest_types::GatewayBot;
use crate::tls;

/// Discord, as it told of itself at the start.
pub(super) struct Discord {
    pub(super) settings: config::Discord,
    pub(super) told: GatewayBot,
    /// When it was asked.
    pub(super) asked: Instant,
    pub(super) url: GatewayUrl,
    pub(super) tls: Arc<tls::Lazy>,
}

impl Service {
    /// Asks Discord where its gateway is; `None` if `stop` comes first.
    pub(super) async fn ask_discord(
        &mut self,
        bot: &config::Discord,
        stop: &CancellationToken,
    ) -> Result<Option<Discord>, ServiceError> {
        let tls = Arc::new(tls::Lazy::default());
        let asked = Instant::now();
        let ending = stop.child_token();
        let asking = async { Ok(until(&ending, ask_discord(bot, &tls)).await.transpose()?) };
        let Some(told) = self.beside(asking, &ending).await? else { return Ok(None) };
        let url = GatewayUrl::parse(&told.url)?;
        Ok(Some(Discord { settings: bot.clone(), url, told, asked, tls }))
    }
}

/// Asks Discord for its gateway until it tells, or says that asking is of no use.
async fn ask_discord(bot: &config::Discord, tls: &tls::Lazy) -> Result<GatewayBot, RestError> {
    let base_url = bot.api.base_url();
    let mut delay = FIRST_RETRY;
    loop {
        match rest::gateway_bot(&base_url, &bot.token, tls).await {
            Ok(gateway) => return Ok(gateway),
            Err(error) if error.is_retryable() => {
                let wait = error.retry_after().unwrap_or(delay);
                warn!(%error, again_in = ?wait, "Discord does not tell where its gateway is");
                tokio::time::sleep(wait).await;
                delay = (delay * 2).min(LONGEST_RETRY);
            }
            Err(error) => return Err(error),
        }
    }
}
