//! `optic` and `optic run`: configuration, log, signals, and the service.

use std::sync::Arc;

use anyhow::Result;
use optic::config::Config;
use optic::service::{self, ServiceError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::environment::Environment;
use super::exit::{Exit, ExitWith};
use super::signals::stop_on_signal;

pub async fn run(environment: &Environment) -> Result<()> {
    let (config, warnings) = environment.config()?;
    optic::logging::init(&config.log, environment.wants_colours())?;
    for warning in &warnings {
        warn!(variable = warning.variable, "{}", warning.text);
    }
    for note in config.discord.iter().flat_map(|bot| bot.intents.notes()) {
        info!("{note}");
    }
    let stop = CancellationToken::new();
    stop_on_signal(&stop, serve(config, stop.clone())).await
}

/// Runs the service until `stop`, and gives its failures their exit codes.
async fn serve(config: Config, stop: CancellationToken) -> Result<()> {
    service::run(config, Arc::default(), stop).await.map_err(failed)
}

/// A service's failure as the end of the process.
pub fn failed(error: ServiceError) -> anyhow::Error {
    let exit = match &error {
        ServiceError::Address(_) | ServiceError::Shards(_) => Exit::Configuration,
        ServiceError::Http(_)
        | ServiceError::Websocket(_)
        | ServiceError::Forwarding(_)
        | ServiceError::Discord(_)
        | ServiceError::GatewayUrl(_)
        | ServiceError::NoShardLeft(_) => Exit::Unavailable,
        ServiceError::Output(_) | ServiceError::Failed(_) => Exit::Failed,
    };
    ExitWith::new(exit, error).into()
}
