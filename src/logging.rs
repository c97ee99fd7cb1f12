//! The log: for people or for machines, always on standard error, since standard output may carry events.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{Log, LogFormat};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none; a validated [`Log`] has one.
    #[error("LOG_LEVEL cannot be read: {0}")]
    Filter(#[from] ParseError),
    /// There is one already.
    #[error("the log is set up already: {0}")]
    AlreadySet(#[from] TryInitError),
}

/// Sets the process's log up, once. `colours` only holds for a terminal.
///
/// # Errors
///
/// The filter cannot be read, or there is a log already.
pub fn init(log: &Log, colours: bool) -> Result<(), LogError> {
    let ansi = colours && io::stderr().is_terminal();
    Ok(subscriber(log, ansi, io::stderr)?.try_init()?)
}

type Boxed = Box<dyn Subscriber + Send + Sync>;

fn subscriber<W>(log: &Log, ansi: bool, writer: W) -> Result<Boxed, ParseError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = targets(&log.filter)?;
    let layer = fmt::layer().with_writer(writer);
    let registry = tracing_subscriber::registry().with(filter);
    Ok(match log.format {
        LogFormat::Text => Box::new(registry.with(layer.with_ansi(ansi))),
        LogFormat::Json => Box::new(registry.with(layer.json().flatten_event(true))),
    })
}

/// What the filter asks for, but for two things:
///
/// - `trace` is for our own modules. Libraries write whole packets there, with passwords and tokens in them: of theirs there is no
///   more than `debug`.
/// - lapin logs as an error what our own log says once, in our words: it is silent unless the filter names it.
fn targets(filter: &str) -> Result<Targets, ParseError> {
    const FOREIGN: LevelFilter = LevelFilter::DEBUG;
    let asked: Targets = filter.parse()?;
    let by_default = asked.default_level().unwrap_or(LevelFilter::OFF);
    let foreign = |target: &str| !target.starts_with(OWN);
    let targets =
        asked.iter().map(|(target, level)| (target, if foreign(target) { level.min(FOREIGN) } else { level }));
    let targets = Targets::new()
        .with_default(by_default.min(FOREIGN))
        .with_target(OWN, by_default)
        .with_target("lapin", LevelFilter::OFF)
        .with_targets(targets);
    Ok(targets)
}

/// What all our modules' names begin with.
const OWN: &str = "optic";

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: LogFormat) -> String {
        let (written, log) = (Written::default(), Log { filter: filter.to_owned(), format });
        let writer = written.clone();
        let subscriber = subscriber(&log, false, move || writer.clone()).expect("a filter");
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("shard", id = 3).entered();
            tracing::info!(target: "optic::discord", session = "abc", "resumed");
            tracing::debug!(target: "optic::discord", "a turn");
            tracing::debug!(target: "optic::amqp", "another turn");
            tracing::trace!(target: "optic::discord", "a packet");
            tracing::error!(target: "lapin::channels", "foreign words");
            tracing::debug!(target: "other", "a library's turn");
            tracing::trace!(target: "lapin::channels", "a password");
            tracing::trace!(target: "other", "a password");
        });
        String::from_utf8(written.0.lock().expect("not poisoned").clone()).expect("text")
    }

    #[test]
    fn text_names_level_span_module_and_fields_without_colours() {
        let text = logged("info", LogFormat::Text);
        assert!(text.trim_end().ends_with(" INFO shard{id=3}: optic::discord: resumed session=\"abc\""), "{text:?}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn json_is_an_object_a_line() {
        let line: serde_json::Value = serde_json::from_str(&logged("info", LogFormat::Json)).expect("JSON");
        assert_eq!(line["message"], "resumed");
        assert_eq!(line["session"], "abc");
        assert_eq!(line["span"]["id"], 3);
    }

    #[test]
    fn lapin_is_silent_unless_it_is_named() {
        assert!(!logged("trace", LogFormat::Text).contains("foreign words"));
        assert!(logged("info,lapin=warn", LogFormat::Text).contains("foreign words"));
    }

    #[test]
    fn of_libraries_there_is_no_more_than_debug_whatever_is_asked_for() {
        for filter in [
            "trace",
            "trace,lapin=trace",
            "lapin::channels=trace,other=trace,optic=trace",
            "trace,lapin::io_loop=debug",
        ] {
            let text = logged(filter, LogFormat::Text);
            assert!(text.contains("a packet") && text.contains("a library's turn"), "{filter}: {text}");
            assert!(!text.contains("a password"), "{filter}: {text}");
        }
        assert!(!logged("optic=trace", LogFormat::Text).contains("a library's turn"));
        assert!(!logged("debug", LogFormat::Text).contains("a packet"));
    }

    #[test]
    fn a_module_may_have_a_level_of_its_own() {
        let text = logged("info,optic::discord=debug", LogFormat::Text);
        assert!(text.contains("a turn") && !text.contains("another turn"), "{text}");
    }
}
