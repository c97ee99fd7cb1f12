//! `optic` and `optic run`: configuration, log, signals, and the service.

use std::pin::pin;

use anyhow::{Context, Result, bail};
use optic::config::Config;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::environment::Environment;

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
    let mut signals = Signals::listen()?;
    let mut service = pin!(serve(config, stop.clone()));
    tokio::select! {
        biased;
        done = &mut service => return done,
        name = signals.next() => info!("{name}: stopping; once more to stop at once"),
    }
    stop.cancel();
    tokio::select! {
        biased;
        done = &mut service => done,
        name = signals.next() => bail!("{name} a second time: stopped at once, what was not confirmed will be resumed"),
    }
}

/// Runs the shards until `stop`.
async fn serve(config: Config, stop: CancellationToken) -> Result<()> {
    drop((config, stop));
    bail!("the service is not part of this build")
}

/// The signals that ask us to stop.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on: the signals no longer end the process by themselves.
    pub fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// The next one's name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
