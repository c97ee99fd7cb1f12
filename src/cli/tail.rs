//! `optic tail`: a worker that prints events as they come, for people.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use optic::amqp::admin::Admin;
use optic::amqp::error::AdminError;
use optic::amqp::tail::{Delivery, Subscription, tail};
use optic::config::{AmqpUrl, BrokerAccess, Log};
use optic::encoding::convert::{Taking, to_json};
use optic::encoding::{Dialect, Encoding};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::environment::{Environment, read_file, wrong};
use super::exit::{Exit, ExitWith};
use super::output;
use super::policies::group_of;
use super::signals::stop_on_signal;

/// What to print, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --subgroup the queues are those of the bot's workers, GROUP:EVENT: what is printed here they do not get. With one the \
queues are GROUP:SUBGROUP:EVENT, and get a copy of every event. Queues stay when this ends, and fill: delete those that nobody \
else needs.

Examples:
  optic tail MESSAGE_CREATE --subgroup look
  optic tail GUILD_CREATE OPTIC_GAP --json --count 10 | jq .data.id")]
pub struct TailArgs {
    /// The events, by their names
    #[arg(required = true, value_name = "EVENT")]
    events: Vec<String>,
    /// Queues of an own: each subgroup gets every event
    #[arg(long, value_parser = subgroup)]
    subgroup: Option<String>,
    /// RabbitMQ [default: AMQP_URL]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The group [default: BROKER_GROUP, else gateway]
    #[arg(long)]
    group: Option<String>,
    /// Print an object a line: time, event, shard, message_id, redelivered, data
    #[arg(long)]
    json: bool,
    /// Print whole bodies
    #[arg(long, conflicts_with = "json")]
    full: bool,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Short,
    Full,
    Json,
}

pub async fn run(args: TailArgs, environment: &Environment) -> Result<()> {
    let Access { url, subscription, log } = access(&args, environment)?;
    optic::logging::init(&log, environment.wants_colours())?;
    for event in &args.events {
        if let Some(doubt) = optic::config::doubt_about_event(event) {
            warn!("{doubt}");
        }
    }
    let (admin, driver) = Admin::new(url.secret(), "optic tail").map_err(cannot_use)?;
    let (stop, disconnect) = (CancellationToken::new(), CancellationToken::new());
    let consuming = async {
        let done = stop_on_signal(&stop, consume(Printer::new(&args), &admin, &subscription, &stop)).await;
        // The connection outlives the consuming: what was sent ahead to us is given back over it.
        disconnect.cancel();
        done
    };
    tokio::join!(consuming, driver.run(disconnect.clone())).0
}

/// What the command line and the environment say together.
struct Access {
    url: AmqpUrl,
    subscription: Subscription,
    log: Log,
}

/// The command line's word goes before the environment's, which then need not be right.
fn access(args: &TailArgs, environment: &Environment) -> Result<Access> {
    let vars = environment.vars().filter(|(name, _)| match name.as_str() {
        "BROKER_GROUP" => args.group.is_none(),
        "AMQP_URL" | "AMQP_URL_FILE" => args.url.is_none(),
        _ => true,
    });
    let (BrokerAccess { url, group, log }, _) = BrokerAccess::from_vars(vars, read_file).map_err(wrong)?;
    let url = match &args.url {
        // It may hold a password, and is not shown.
        Some(text) => Some(AmqpUrl::parse(text).map_err(|(problem, remedy)| {
            ExitWith::new(Exit::Usage, format_args!("--url (not shown): {problem}; {remedy}"))
        })?),
        None => url,
    };
    let group = args.group.as_deref().map_or(Ok(group), group_of)?;
    let missing = || ExitWith::new(Exit::Configuration, "where is RabbitMQ? Set AMQP_URL, or give --url");
    let (group, subgroup) = (group.as_str().to_owned(), args.subgroup.clone());
    let subscription = Subscription { group, subgroup, events: events(&args.events) };
    Ok(Access { url: url.ok_or_else(missing)?, subscription, log })
}

/// Each once: a second consumer of one queue would only share its events.
fn events(names: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.iter().filter(|name| seen.insert(*name)).cloned().collect()
}

fn subgroup(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control()) {
        return Err("write a short name without colons and white space".to_owned());
    }
    Ok(text.to_owned())
}

/// Prints until `stop`, the count, or a reader that has gone; the last two cancel `stop` themselves.
async fn consume(
    mut printer: Printer,
    admin: &Admin,
    subscription: &Subscription,
    stop: &CancellationToken,
) -> Result<()> {
    let mut printing = Ok(());
    let ready = || info!(group = subscription.group, subgroup = subscription.subgroup, "waiting for events");
    let on_delivery = |delivery: Delivery| match printer.print(SystemTime::now(), &delivery) {
        Ok(true) => {}
        Ok(false) => stop.cancel(),
        Err(why) => {
            printing = Err(why);
            stop.cancel();
        }
    };
    tail(admin, subscription, stop, ready, on_delivery).await.map_err(cannot_use)?;
    printing
}

/// What of RabbitMQ only a person can change is a matter of configuration.
pub fn cannot_use(why: AdminError) -> anyhow::Error {
    let exit = if why.is_passing() { Exit::Failed } else { Exit::Configuration };
    ExitWith::new(exit, why).into()
}

/// Prints events, and says when it is enough.
struct Printer {
    style: Style,
    width: usize,
    left: Option<u64>,
}

impl Printer {
    fn new(args: &TailArgs) -> Self {
        let style = match (args.json, args.full) {
            (true, _) => Style::Json,
            (false, true) => Style::Full,
            (false, false) => Style::Short,
        };
        let width = args.events.iter().map(String::len).max().unwrap_or_default();
        Self { style, width, left: args.count }
    }

    /// Prints one; `false` when that was the last, or nobody reads any more.
    fn print(&mut self, now: SystemTime, delivery: &Delivery) -> Result<bool> {
        let read = output::print(&line(self.style, self.width, now, delivery))?;
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(read && self.left != Some(0))
    }
}

/// A line as it is printed now for people.
pub fn line_for_people(width: usize, delivery: &Delivery) -> String {
    line(Style::Short, width, SystemTime::now(), delivery)
}

fn line(style: Style, width: usize, now: SystemTime, delivery: &Delivery) -> String {
    let Delivery { event, shard, redelivered, body, .. } = delivery;
    if style == Style::Json {
        return json_line(now, delivery);
    }
    let shard = shard.map_or("-".to_owned(), |shard| shard.to_string());
    let again = if *redelivered { " (again)" } else { "" };
    let size = size(body.len());
    let body = match style {
        Style::Full => printable(&readable(delivery), usize::MAX),
        _ => printable(&readable(delivery), 100),
    };
    format!("{}  shard {shard:<4} {event:<width$} {size:>9}{again}  {body}\n", time_of_day(now))
}

fn json_line(now: SystemTime, delivery: &Delivery) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        /// Unix milliseconds.
        time: u64,
        event: &'a str,
        shard: Option<i64>,
        message_id: Option<&'a str>,
        redelivered: bool,
        data: Data<'a>,
    }
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Data<'a> {
        Json(&'a RawValue),
        /// What is not JSON, as text.
        Text(String),
    }
    let Delivery { event, shard, message_id, redelivered, .. } = delivery;
    let body = readable(delivery);
    let data = match serde_json::from_slice(&body) {
        // A line break between tokens would end the line.
        Ok(json) if !body.contains(&b'\n') => Data::Json(json),
        Ok(json) => Data::Text(json.get().to_owned()),
        Err(_) => Data::Text(String::from_utf8_lossy(&body).into_owned()),
    };
    let time = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().try_into().unwrap_or(u64::MAX);
    let line = Line { time, event, shard: *shard, message_id: message_id.as_deref(), redelivered: *redelivered, data };
    serde_json::to_string(&line).expect("a line has only text keys") + "\n"
}

/// The body as JSON, whatever `BROKER_ENCODING` made of it; what cannot be read stays as it is.
fn readable(delivery: &Delivery) -> Cow<'_, [u8]> {
    let dialect = Dialect::of_body(delivery.content_type.as_deref(), &delivery.body);
    // Ids are integers there: what else reads the line rounds them.
    let taking = if dialect == Dialect::Plain(Encoding::Etf) { Taking::IDS_AS_TEXT } else { Taking::EXACT };
    to_json(dialect, &delivery.body, taking).unwrap_or_else(|_| delivery.body.as_slice().into())
}

/// At most so many characters, none of which moves a terminal's cursor.
fn printable(body: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(body);
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(most).map(|c| if c.is_control() { '·' } else { c }).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// UTC, as the log's times are.
fn time_of_day(now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = now.as_secs() % 86_400;
    let mut text = String::new();
    write!(text, "{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, now.subsec_millis())
        .expect("text takes text");
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(style: Style, body: &[u8], redelivered: bool) -> String {
        let now = UNIX_EPOCH + Duration::from_millis(45_296_789);
        let delivery = Delivery {
            event: "MESSAGE_CREATE".to_owned(),
            message_id: Some("s:7".to_owned()),
            shard: Some(3),
            content_type: Some("application/json".to_owned()),
            redelivered,
            body: body.to_vec(),
        };
        line(style, 16, now, &delivery)
    }

    #[test]
    fn a_line_for_people_is_aligned_and_short() {
        let text = at(Style::Short, br#"{"id":"1"}"#, false);
        assert_eq!(text, "12:34:56.789  shard 3    MESSAGE_CREATE        10 B  {\"id\":\"1\"}\n");
        let long = at(Style::Short, "é".repeat(2000).as_bytes(), true);
        assert!(long.ends_with(&format!("3.9 KiB (again)  {}…\n", "é".repeat(100))), "{long}");
        assert!(at(Style::Full, "é".repeat(2000).as_bytes(), false).ends_with(&("é".repeat(2000) + "\n")));
    }

    #[test]
    fn a_body_in_another_encoding_is_shown_as_json() {
        for body in [&b"\x81\xa2id\xa11"[..], b"\xaa{\"id\":\"1\"}", b"\x83t\0\0\0\x01d\0\x02idm\0\0\0\x011"] {
            assert!(at(Style::Short, body, false).ends_with("  {\"id\":\"1\"}\n"));
            assert!(at(Style::Json, body, false).ends_with(",\"data\":{\"id\":\"1\"}}\n"));
        }
    }

    #[test]
    fn an_id_of_a_term_is_a_text_as_it_is_in_discords_json() {
        // {id: 2^53 + 1, n: 1}
        let term = b"\x83t\0\0\0\x02d\0\x02idn\x07\0\x01\0\0\0\0\0\x20d\0\x01na\x01";
        for style in [Style::Short, Style::Json] {
            let line = at(style, term, false);
            assert!(line.contains(r#"{"id":"9007199254740993","n":1}"#), "{line}");
        }
    }

    #[test]
    fn a_body_cannot_move_the_cursor() {
        assert!(at(Style::Full, b"a\x1b[2Jb\nc\xff", false).ends_with("a·[2Jb·c\u{fffd}\n"));
    }

    #[test]
    fn json_carries_the_body_as_it_came() {
        let text = at(Style::Json, br#"{"id": 12345678901234567890123}"#, false);
        let expected = r#"{"time":45296789,"event":"MESSAGE_CREATE","shard":3,"message_id":"s:7","redelivered":false,"data":{"id": 12345678901234567890123}}"#;
        assert_eq!(text, format!("{expected}\n"));
        assert!(at(Style::Json, b"\x83t\n", false).ends_with(",\"data\":\"\u{fffd}t\\n\"}\n"));
    }
}
