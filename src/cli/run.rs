//! `optic` and `optic run`: configuration, log, signals, and the service.

use anyhow::Result;
use optic::config::Config;
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
    for note in config.discord.intents.notes() {
        info!("{note}");
    }
    let stop = CancellationToken::new();
    stop_on_signal(&stop, serve(config, stop.clone())).await
}

/// Runs the shards until `stop`. This build has no service to run them with, and says so.
async fn serve(config: Config, stop: CancellationToken) -> Result<()> {
    drop((config, stop));
    Err(ExitWith::new(Exit::Unavailable, "the service is not part of this build").into())
}
