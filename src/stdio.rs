//! `BROKER_TYPE=stdio`: events as JSON lines on standard output, commands as JSON lines on standard input. No server needed.
//!
//! An event is `{"event":NAME,"data":D}`, in JSON whatever Discord wrote it in, and counts as settled when its line was written. A command is the same: `event` is a
//! shard's number and `data` the packet, or `event` is `SEND` and `data` is `{"guild_id":ID,"packet":PACKET}`.
//! Spec: spec/stdio.md.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::broker::{Broker, BrokerState, Event, GAP_EVENT, Gap, GapCounts, Position, Wait};
use crate::discord::command::{self, Rejected};
use crate::discord::commands::{Commands, NotRun};
use crate::discord::ids::ShardId;
use crate::encoding::convert::{Taking, convert};
use crate::encoding::{Dialect, Encoding, ReadError, etf};
use crate::spectacles::tally::Count;

/// Lines waiting beyond this many bytes stop the shards' reading.
const WINDOW: usize = 4 << 20;

/// The longest line that is read: a packet has at most 4,096 bytes, and white space and escapes need room.
const MAX_LINE: usize = 64 << 10;

/// Events out: what shards publish to.
#[derive(Debug)]
pub struct Output {
    /// The events to write; `None`: all.
    events: Option<Vec<String>>,
    gaps: GapCounts,
    lines: Mutex<Lines>,
    work: Notify,
    progress: Notify,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: Vec<u8>,
    next: Position,
    settled: Position,
    /// Nobody reads any more: what is not settled never will be.
    closed: bool,
    /// Of events that are not in JSON.
    unconverted: Count,
}

impl Output {
    /// Writes these events, or all.
    pub fn new(events: Option<Vec<String>>) -> Self {
        Self {
            events,
            gaps: GapCounts::default(),
            lines: Mutex::default(),
            work: Notify::new(),
            progress: Notify::new(),
        }
    }

    /// How many gaps were told.
    pub fn gaps(&self) -> &GapCounts {
        &self.gaps
    }

    /// Writes lines until `stop`.
    ///
    /// # Errors
    /// When the other end is gone: nobody is left to read events.
    pub async fn run(&self, mut to: impl AsyncWrite + Unpin, stop: CancellationToken) -> io::Result<()> {
        loop {
            let (bytes, up_to) = {
                let mut lines = self.lines();
                (std::mem::take(&mut lines.waiting), lines.next)
            };
            if bytes.is_empty() {
                tokio::select! {
                    biased;
                    () = self.work.notified() => continue,
                    () = stop.cancelled() => return Ok(()),
                }
            }
            let written = async {
                to.write_all(&bytes).await?;
                to.flush().await
            };
            let result = written.await;
            {
                let mut lines = self.lines();
                match result {
                    Ok(()) => lines.settled = up_to,
                    Err(_) => lines.closed = true,
                }
            }
            self.progress.notify_waiters();
            result?;
        }
    }

    /// Writes a line. A term that cannot be had in JSON is in it as it came, and why it cannot is given.
    fn write(&self, name: &str, encoding: Encoding, data: &[u8]) -> (Position, Result<(), ReadError>) {
        let mut lines = self.lines();
        let out = &mut lines.waiting;
        out.extend_from_slice(b"{\"event\":");
        serde_json::to_writer(&mut *out, name).expect("a Vec takes it");
        out.extend_from_slice(b",\"data\":");
        let start = out.len();
        let json = Dialect::Plain(Encoding::Json);
        let converted = match encoding {
            Encoding::Json => {
                out.extend_from_slice(data);
                Ok(())
            }
            encoding => convert(encoding, data, json, Taking::event_in(encoding), out),
        };
        if converted.is_err() {
            let whole = [&[etf::VERSION], data].concat();
            write!(out, "null,\"etf\":\"{}\"", BASE64.encode(&whole)).expect("a Vec takes it");
        }
        // Inside strings JSON has no raw line breaks; between tokens they are white space, and would break the line.
        for byte in &mut out[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        out.extend_from_slice(b"}\n");
        let position = lines.next;
        lines.next = position.next();
        drop(lines);
        self.work.notify_one();
        (position, converted)
    }

    async fn wait_until(&self, reached: impl Fn(&Lines) -> bool) {
        loop {
            let mut progress = std::pin::pin!(self.progress.notified());
            progress.as_mut().enable();
            if reached(&self.lines()) {
                return;
            }
            progress.await;
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for Output {
    fn publish(&self, event: &Event<'_>) -> Option<Position> {
        if self.events.as_ref().is_some_and(|events| !events.iter().any(|name| name == event.name)) {
            return None;
        }
        let &Event { shard, seq, name, encoding, data, .. } = event;
        let (position, converted) = self.write(name, encoding, data);
        if let Err(reason) = converted
            && let Some(more) = self.lines().unconverted.count(Instant::now())
        {
            let shard = shard.id();
            warn!(%shard, event = name, %seq, %reason, more, "an event cannot be written in JSON: its line has it as it came");
        }
        Some(position)
    }

    fn publish_gap(&self, gap: &Gap) -> Option<Position> {
        self.gaps.count(gap.reason);
        warn!(shard = %gap.shard.id(), reason = ?gap.reason, "events were lost: told by {GAP_EVENT}");
        let gap = serde_json::to_vec(gap).expect("a gap is plain data");
        Some(self.write(GAP_EVENT, Encoding::Json, &gap).0)
    }

    fn discard(&self, _: ShardId) {
        // Without RabbitMQ there is one process, and no other that could have the shard.
    }

    fn settled(&self) -> Position {
        self.lines().settled
    }

    fn has_room(&self) -> bool {
        self.lines().waiting.len() < WINDOW
    }

    fn room(&self) -> Wait<'_> {
        Box::pin(self.wait_until(|lines| lines.waiting.len() < WINDOW / 2))
    }

    fn flushed(&self) -> Wait<'_> {
        let end = self.lines().next;
        Box::pin(self.wait_until(move |lines| lines.settled >= end || lines.closed))
    }

    fn state(&self) -> BrokerState {
        if self.lines().closed { BrokerState::Disconnected } else { BrokerState::Connected }
    }
}

/// A line of standard input.
#[derive(Deserialize)]
struct Line<'a> {
    event: Target,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// A shard's number, as number or text, or `SEND`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Target {
    Shard(u32),
    Name(String),
}

/// The `data` of a `SEND`.
#[derive(Deserialize)]
struct Send<'a> {
    guild_id: GuildId,
    #[serde(borrow)]
    packet: &'a RawValue,
}

/// Ids are numbers of up to 64 bits, and JSON from some languages can only hold them as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum GuildId {
    Number(u64),
    Text(String),
}

/// Why a line of standard input was not carried out.
#[derive(Debug, thiserror::Error)]
enum BadLine {
    #[error("it is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("it is not {{\"event\":SHARD or \"SEND\",\"data\":PACKET}}: {0}")]
    NotACommand(serde_json::Error),
    #[error("\"event\" is {0:?}; write a shard's number, or SEND")]
    UnknownTarget(String),
    #[error("\"guild_id\" is not a number: {0:?}")]
    BadGuildId(String),
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error(transparent)]
    NotRun(#[from] NotRun),
}

/// Reads commands until the end of the input, or `stop`. The end is no reason to stop: many run without an input.
pub async fn read_commands(from: impl tokio::io::AsyncRead + Unpin, commands: Arc<Commands>, stop: CancellationToken) {
    let mut from = BufReader::new(from);
    let mut number = 0u64;
    loop {
        number += 1;
        let line = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            line = next_line(&mut from) => line,
        };
        let result = match line {
            Ok(None) => {
                info!("end of standard input: no more commands");
                return;
            }
            Ok(Some(Ok(line))) if line.trim_ascii().is_empty() => continue,
            Ok(Some(Ok(line))) => tokio::select! {
                biased;
                () = stop.cancelled() => return,
                done = carry_out(&line, &commands) => done,
            },
            Ok(Some(Err(error))) => Err(error),
            Err(error) => {
                warn!(%error, "standard input cannot be read: no more commands");
                return;
            }
        };
        if let Err(error) = result {
            warn!(line = number, %error, "a line of standard input is no command, and is left out");
        }
    }
}

async fn next_line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Result<Vec<u8>, BadLine>>> {
    let mut line = Vec::new();
    from.take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line).await?;
    if line.len() <= MAX_LINE || line.ends_with(b"\n") {
        return Ok((!line.is_empty()).then_some(Ok(line)));
    }
    while !line.is_empty() && !line.ends_with(b"\n") {
        line.clear();
        from.take(MAX_LINE as u64).read_until(b'\n', &mut line).await?;
    }
    Ok(Some(Err(BadLine::TooLong)))
}

async fn carry_out(line: &[u8], commands: &Commands) -> Result<(), BadLine> {
    let Line { event, data } = serde_json::from_slice(line).map_err(BadLine::NotACommand)?;
    let (shard, packet) = match event {
        Target::Shard(id) => (ShardId::new(id), data),
        Target::Name(name) if name == "SEND" => {
            let Send { guild_id, packet } = serde_json::from_str(data.get()).map_err(BadLine::NotACommand)?;
            let guild_id = match guild_id {
                GuildId::Number(id) => id,
                GuildId::Text(text) => text.parse().map_err(|_| BadLine::BadGuildId(text))?,
            };
            (commands.shard_of(guild_id), packet)
        }
        Target::Name(name) => match name.parse() {
            Ok(id) => (ShardId::new(id), data),
            Err(_) => return Err(BadLine::UnknownTarget(name)),
        },
    };
    let checked = command::check(packet.get().as_bytes(), commands.encoding())?;
    // Nobody waits for the outcome: a shard without a connection keeps the command until it has one.
    commands.send(shard, checked.packet.into_owned()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discord::ids::{Seq, SessionId, Shard};

    #[test]
    fn a_term_is_a_line_of_json_and_what_json_has_not_is_in_its_line_as_it_came() {
        let output = Output::new(None);
        let shard = Shard::new(ShardId::new(0), 1).expect("the only one");
        let (session, seq, encoding) = (SessionId::new("s"), Seq::new(7), Encoding::Etf);
        // {id: 2^53, n: [1, 2]}
        let data = b"\x74\0\0\0\x02\x64\0\x02id\x6e\x07\0\0\0\0\0\0\0\x20\x64\0\x01n\x6b\0\x02\x01\x02";
        let event = Event { shard, session: &session, seq, name: "MESSAGE_CREATE", encoding, data };
        assert_eq!(output.publish(&event), Some(Position::new(0)));
        // Not a number is nothing that JSON has.
        let nan = b"\x46\x7f\xf8\0\0\0\0\0\0";
        assert_eq!(output.publish(&Event { data: nan, ..event }), Some(Position::new(1)));
        let half = br#"{"a":"\ud83d"}"#;
        assert_eq!(output.publish(&Event { encoding: Encoding::Json, data: half, ..event }), Some(Position::new(2)));
        let lines = String::from_utf8(output.lines().waiting.clone()).expect("text");
        let expected = [
            r#"{"event":"MESSAGE_CREATE","data":{"id":"9007199254740992","n":[1,2]}}"#,
            // 131 before it.
            r#"{"event":"MESSAGE_CREATE","data":null,"etf":"g0Z/+AAAAAAAAA=="}"#,
            r#"{"event":"MESSAGE_CREATE","data":{"a":"\ud83d"}}"#,
        ];
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
        assert_eq!(output.lines().unconverted.total(), 1);
    }
}
