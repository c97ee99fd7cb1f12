//! SIGTERM and SIGINT: the first asks the work to stop in order, the second does not wait for that.

use std::future::Future;
use std::pin::pin;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Does the work, and cancels `stop` at the first signal. The work has to end then.
///
/// # Errors
///
/// What the work ends with; or a second signal came first.
pub async fn stop_on_signal(stop: &CancellationToken, work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        name = signals.next() => info!("{name}: stopping; once more to stop at once"),
    }
    stop.cancel();
    tokio::select! {
        biased;
        done = &mut work => done,
        name = signals.next() => bail!("{name} a second time: stopped at once, without waiting for what was under way"),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on: the signals no longer end the process by themselves.
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// The next one's name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
