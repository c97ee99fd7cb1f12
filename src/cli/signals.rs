//! SIGTERM and SIGINT: the first asks the work to stop in order, a later one does not wait for that.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// One request may come as several signals: timeout(1) signals process and group, a terminal and a supervisor both do. What
/// comes within this time of the first is the same request.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Does the work, and cancels `stop` at the first signal. The work has to end then.
///
/// # Errors
///
/// What the work ends with; or a later signal came first.
pub async fn stop_on_signal(stop: &CancellationToken, work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        name = signals.next() => info!("{name}: stopping; once more, a second later, to stop at once"),
    }
    stop.cancel();
    let asked = Instant::now();
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            name = signals.next() => if asked.elapsed() >= SAME_REQUEST {
                bail!("{name} once more: stopped at once, without waiting for what was under way");
            },
        }
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
