//! A worker that only counts, as cheaply as it can: it shares the machine with what is measured.
//!
//! One blocking connection, a queue for each event as Spectacles workers have it, no acknowledgements. The queues are
//! exclusive: they go when it goes.
//!
//! ```text
//! counter AMQP_URL GROUP EXPECTED [--skip-latency N] EVENT...
//! ```
//!
//! Lines of JSON on standard output: `{"ready":true}` when it consumes; `{"first":µs}` with the Unix time at which the first
//! event came; and once EXPECTED came, and no other within half a second, `{"count":..,"latency":{..}}`. The latency is that of
//! events that carry `_sim_ts`, but for the first N.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A frame's type, channel and length; its end octet comes after the payload.
const FRAME_HEAD: usize = 7;
const METHOD: u8 = 1;
const BODY: u8 = 3;

/// Longer than a run takes: whoever waits so long waits for nothing.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a second copy of an event is waited for at the end.
const AFTERMATH: Duration = Duration::from_millis(500);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: counter AMQP_URL GROUP EXPECTED [--skip-latency N] EVENT...");
    let (url, group, expected) = (next()?, next()?, next()?.parse::<u64>()?);
    let mut skip = 0;
    let mut events: Vec<String> = std::env::args().skip(4).collect();
    if events.first().is_some_and(|first| first == "--skip-latency") {
        skip = events.get(1).ok_or("--skip-latency needs a number")?.parse()?;
        events.drain(..2);
    }

    let mut connection = Connection::open(&url)?;
    connection.consume(&group, &events)?;
    say("{\"ready\":true}");

    let (mut count, mut latencies) = (0_u64, Vec::new());
    loop {
        match connection.body() {
            Ok(body) => {
                if count == 0 {
                    say(&format!("{{\"first\":{}}}", now()));
                }
                count += 1;
                if let Some(sent) = stamp(body) {
                    latencies.push(now().saturating_sub(sent));
                }
                if count == expected {
                    connection.socket.set_read_timeout(Some(AFTERMATH))?;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let latencies = latencies.get_mut(skip..).unwrap_or_default();
    latencies.sort_unstable();
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(0);
    let (p50, p99) = (at(0.5), at(0.99));
    say(&format!("{{\"count\":{count},\"latency\":{{\"n\":{},\"p50\":{p50},\"p99\":{p99}}}}}", latencies.len()));
    Ok(())
}

/// One line, at once.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: there is nothing to say it to.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Unix time in microseconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// `_sim_ts` of an event, in JSON or as a term.
fn stamp(body: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"_sim_ts\":";
    /// The atom, and the head of an integer of seven bytes.
    const TERM: &[u8] = b"\x64\0\x07_sim_ts\x6e\x07\0";
    if body.first() == Some(&131) {
        let at = memchr::memmem::find(body, TERM)? + TERM.len();
        let digits = body.get(at..at + 7)?;
        return Some(digits.iter().rev().fold(0, |number, digit| number << 8 | u64::from(*digit)));
    }
    let at = memchr::memmem::find(body, KEY)? + KEY.len();
    let digits = body[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// As much of AMQP 0-9-1 as consuming needs, from a broker that is trusted.
struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Connection {
    fn open(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("amqp://").ok_or("the address is to begin with amqp://")?;
        let (address, vhost) = rest.split_once('/').unwrap_or((rest, "%2f"));
        let (login, host) = address.rsplit_once('@').unwrap_or(("guest:guest", address));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:5672") };
        let socket = TcpStream::connect(&host).map_err(|error| format!("{host}: {error}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut connection = Self { socket, buffer: vec![0; 256 << 10], start: 0, end: 0 };

        connection.socket.write_all(b"AMQP\0\0\x09\x01")?;
        connection.expect((10, 10))?;
        let plain = format!("\0{user}\0{password}");
        let mut start_ok = vec![0, 0, 0, 0]; // no client properties
        short(&mut start_ok, "PLAIN");
        start_ok.extend_from_slice(&(plain.len() as u32).to_be_bytes());
        start_ok.extend_from_slice(plain.as_bytes());
        short(&mut start_ok, "en_US");
        connection.method(0, (10, 11), &start_ok)?;
        connection.expect((10, 30))?;
        // One channel, frames of 128 KiB, no heartbeats.
        connection.method(0, (10, 31), &[0, 1, 0, 2, 0, 0, 0, 0])?;
        let mut open = Vec::new();
        short(
            &mut open,
            &if vhost.is_empty() { "/".to_owned() } else { vhost.replace("%2f", "/").replace("%2F", "/") },
        );
        open.extend_from_slice(&[0, 0]);
        connection.method(0, (10, 40), &open)?;
        connection.expect((10, 41))?;
        connection.method(1, (20, 10), &[0])?;
        connection.expect((20, 11))?;
        Ok(connection)
    }

    /// Declares the exchange, and for each event a queue, bound and consumed.
    fn consume(&mut self, group: &str, events: &[String]) -> Result<()> {
        let mut exchange = vec![0, 0];
        short(&mut exchange, group);
        short(&mut exchange, "direct");
        exchange.extend_from_slice(&[0b10, 0, 0, 0, 0]); // durable
        self.method(1, (40, 10), &exchange)?;
        self.expect((40, 11))?;
        for event in events {
            let queue = format!("{group}:{event}");
            let mut declare = vec![0, 0];
            short(&mut declare, &queue);
            declare.extend_from_slice(&[0b100, 0, 0, 0, 0]); // exclusive
            self.method(1, (50, 10), &declare)?;
            self.expect((50, 11))?;
            let mut bind = vec![0, 0];
            short(&mut bind, &queue);
            short(&mut bind, group);
            short(&mut bind, event);
            bind.extend_from_slice(&[0, 0, 0, 0, 0]);
            self.method(1, (50, 20), &bind)?;
            self.expect((50, 21))?;
            let mut consume = vec![0, 0];
            short(&mut consume, &queue);
            short(&mut consume, event);
            consume.extend_from_slice(&[0b10, 0, 0, 0, 0]); // no acknowledgements
            self.method(1, (60, 20), &consume)?;
            self.expect((60, 21))?;
        }
        Ok(())
    }

    /// The first part of the next message's body. Each message counts once: a later part's frame follows one that was full.
    fn body(&mut self) -> std::io::Result<&[u8]> {
        let mut fresh = false;
        loop {
            let (kind, range) = self.frame()?;
            match kind {
                METHOD if self.buffer[range.clone()].starts_with(&[0, 60, 0, 60]) => fresh = true,
                METHOD => {
                    let text = String::from_utf8_lossy(&self.buffer[range]).into_owned();
                    return Err(std::io::Error::other(format!("the broker said {text:?}")));
                }
                BODY if fresh => return Ok(&self.buffer[range]),
                _ => {}
            }
        }
    }

    fn expect(&mut self, wanted: (u16, u16)) -> Result<()> {
        let (_, range) = self.frame()?;
        let payload = &self.buffer[range];
        let head = [wanted.0.to_be_bytes(), wanted.1.to_be_bytes()].concat();
        if !payload.starts_with(&head) {
            return Err(format!("instead of {wanted:?} the broker said {:?}", String::from_utf8_lossy(payload)).into());
        }
        Ok(())
    }

    fn method(&mut self, channel: u16, id: (u16, u16), arguments: &[u8]) -> Result<()> {
        let mut frame = vec![METHOD];
        frame.extend_from_slice(&channel.to_be_bytes());
        frame.extend_from_slice(&(arguments.len() as u32 + 4).to_be_bytes());
        frame.extend_from_slice(&id.0.to_be_bytes());
        frame.extend_from_slice(&id.1.to_be_bytes());
        frame.extend_from_slice(arguments);
        frame.push(0xce);
        Ok(self.socket.write_all(&frame)?)
    }

    /// The next frame's type, and where its payload lies.
    fn frame(&mut self) -> std::io::Result<(u8, std::ops::Range<usize>)> {
        self.fill(FRAME_HEAD)?;
        let head = &self.buffer[self.start..self.start + FRAME_HEAD];
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let kind = head[0];
        self.fill(FRAME_HEAD + length + 1)?;
        let from = self.start + FRAME_HEAD;
        self.start = from + length + 1;
        Ok((kind, from..from + length))
    }

    /// Reads until so many bytes are there.
    fn fill(&mut self, wanted: usize) -> std::io::Result<()> {
        if self.start + wanted > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < wanted {
            match self.socket.read(&mut self.buffer[self.end..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => self.end += n,
            }
        }
        Ok(())
    }
}

fn short(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("names are short"));
    out.extend_from_slice(text.as_bytes());
}
