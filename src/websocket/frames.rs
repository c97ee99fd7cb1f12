//! Websocket frames, the server's side (RFC 6455), on bytes alone.
//!
//! Owned, and not a library's, for the sake of ten thousand clients at rest: here they hold no buffer at all, and what a large
//! message took is given back after it. Extensions are not offered. Knows neither sockets nor what messages mean.

use crate::encoding::Encoding;

/// A buffer larger than this is given back once it is empty.
const KEPT: usize = 4 << 10;

/// A message's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// What JSON comes in.
    Text,
    /// What MessagePack and ETF come in.
    Binary,
}

impl FrameKind {
    /// The kind of an encoding's messages, both ways.
    pub const fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Json => Self::Text,
            Encoding::Msgpack | Encoding::Etf => Self::Binary,
        }
    }
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A whole message; text is UTF-8.
    Message(FrameKind, &'a [u8]),
    /// To be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// An answer to a ping.
    Pong,
    /// A frame of a message that is not whole yet.
    Part,
    /// The end, with a code if there was one.
    Close(Option<u16>),
}

/// Why a client's bytes cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// More than is taken.
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
    /// A text message that is none.
    #[error("a text message that is not UTF-8")]
    NotText,
    /// Against RFC 6455.
    #[error("{0}")]
    Protocol(&'static str),
}

impl Fault {
    /// With what such a connection is closed.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::TooLarge(_) => 1009,
            Self::NotText => 1007,
            Self::Protocol(_) => 1002,
        }
    }
}

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Collects a client's frames into messages.
#[derive(Debug)]
pub struct Reader {
    /// Bytes that came, from `at` on not yet read.
    held: Vec<u8>,
    at: usize,
    /// The frames so far of a message that is split over frames.
    split: Option<(FrameKind, Vec<u8>)>,
    /// `split` is whole, and given out: the next call clears it.
    given: bool,
    most: usize,
}

impl Reader {
    /// Takes messages of up to `most` bytes; begins with bytes that came together with the handshake.
    pub fn new(most: usize, early: &[u8]) -> Self {
        Self { held: early.to_vec(), at: 0, split: None, given: false, most }
    }

    /// Takes messages of up to so many bytes from now on.
    pub fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// Takes bytes in, in the order of the wire. Those before should have been read as far as they go.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.at);
        self.at = 0;
        self.held.extend_from_slice(bytes);
    }

    /// The next that is whole; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the client breaks the protocol, or asks for too much.
    pub fn next_message(&mut self) -> Result<Option<Incoming<'_>>, Fault> {
        if std::mem::take(&mut self.given) {
            self.split = None;
        }
        if let Some(frame) = Frame::parse(&self.held[self.at..], self.most)? {
            let (start, end) = (self.at + frame.head, self.at + frame.head + frame.length);
            self.at = end;
            unmask(&mut self.held[start..end], frame.mask);
            let payload = start..end;
            match (frame.opcode, frame.last) {
                (TEXT | BINARY, _) if self.split.is_some() => {
                    return Err(Fault::Protocol("a message began inside another"));
                }
                (TEXT | BINARY, true) => {
                    let payload = &self.held[payload];
                    return message(kind(frame.opcode), payload).map(Some);
                }
                (TEXT | BINARY, false) => {
                    self.split = Some((kind(frame.opcode), self.held[payload].to_vec()));
                    return Ok(Some(Incoming::Part));
                }
                (CONTINUATION, last) => {
                    let Some((kind, whole)) = &mut self.split else {
                        return Err(Fault::Protocol("nothing to continue"));
                    };
                    if whole.len() + payload.len() > self.most {
                        return Err(Fault::TooLarge(self.most));
                    }
                    whole.extend_from_slice(&self.held[payload]);
                    self.given = last;
                    return if last { message(*kind, whole).map(Some) } else { Ok(Some(Incoming::Part)) };
                }
                (PING, _) => return Ok(Some(Incoming::Ping(&self.held[payload]))),
                (PONG, _) => return Ok(Some(Incoming::Pong)),
                _ => return close(&self.held[payload]).map(|code| Some(Incoming::Close(code))),
            }
        }
        if self.at == self.held.len() {
            self.at = 0;
            self.held.clear();
            if self.held.capacity() > KEPT {
                self.held = Vec::new();
            }
        }
        Ok(None)
    }
}

fn kind(opcode: u8) -> FrameKind {
    if opcode == TEXT { FrameKind::Text } else { FrameKind::Binary }
}

fn message(kind: FrameKind, payload: &[u8]) -> Result<Incoming<'_>, Fault> {
    if kind == FrameKind::Text && std::str::from_utf8(payload).is_err() {
        return Err(Fault::NotText);
    }
    Ok(Incoming::Message(kind, payload))
}

fn close(payload: &[u8]) -> Result<Option<u16>, Fault> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Fault::Protocol("a close code of one byte")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Fault::Protocol("a close code that is not to be sent"));
    }
    std::str::from_utf8(reason).map_err(|_| Fault::NotText)?;
    Ok(Some(code))
}

/// A frame's head, once all of the frame is there.
struct Frame {
    opcode: u8,
    last: bool,
    mask: [u8; 4],
    head: usize,
    length: usize,
}

impl Frame {
    fn parse(bytes: &[u8], most: usize) -> Result<Option<Self>, Fault> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let (last, opcode) = (first & FINAL != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(Fault::Protocol("a reserved bit is set, but no extension was agreed"));
        }
        if second & MASKED == 0 {
            return Err(Fault::Protocol("a client's frame must be masked"));
        }
        let second = second & !MASKED;
        match opcode {
            CONTINUATION | TEXT | BINARY => {}
            CLOSE | PING | PONG if last && second <= 125 => {}
            CLOSE | PING | PONG => return Err(Fault::Protocol("a control frame that is split or too long")),
            _ => return Err(Fault::Protocol("a frame with a reserved opcode")),
        }
        let (before, length) = match second {
            126 => match rest.first_chunk() {
                Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            length => (2, u64::from(length)),
        };
        // Said by the head alone: nothing of it is waited for.
        let length = usize::try_from(length).ok().filter(|length| *length <= most).ok_or(Fault::TooLarge(most))?;
        let Some(&mask) = bytes[before..].first_chunk() else { return Ok(None) };
        let head = before + mask.len();
        Ok((bytes.len() - head >= length).then_some(Self { opcode, last, mask, head, length }))
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let mut chunks = payload.chunks_exact_mut(4);
    for chunk in &mut chunks {
        for (byte, mask) in chunk.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Appends a message in one frame.
pub fn write_message(out: &mut Vec<u8>, kind: FrameKind, payload: &[u8]) {
    let opcode = match kind {
        FrameKind::Text => TEXT,
        FrameKind::Binary => BINARY,
    };
    write_frame(out, opcode, payload);
}

/// Appends the answer to a ping. A ping's payload is at most 125 bytes.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, PONG, payload);
}

/// Appends a ping.
pub fn write_ping(out: &mut Vec<u8>) {
    write_frame(out, PING, &[]);
}

/// Appends a close, with a code if there is one.
pub fn write_close(out: &mut Vec<u8>, code: Option<u16>) {
    match code {
        Some(code) => write_frame(out, CLOSE, &code.to_be_bytes()),
        None => write_frame(out, CLOSE, &[]),
    }
}

/// Appends a close with a code and as much of a reason as fits.
pub fn write_close_with(out: &mut Vec<u8>, code: u16, reason: &str) {
    // A control frame has 125 bytes at most.
    const MOST: usize = 123;
    let end = (0..=reason.len().min(MOST)).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or_default();
    write_frame(out, CLOSE, &[&code.to_be_bytes(), &reason.as_bytes()[..end]].concat());
}

fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(FINAL | opcode);
    match payload.len() {
        length @ ..=125 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's frame.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_frame(&mut frame, first & !FINAL, payload);
        frame[0] = first;
        frame[1] |= MASKED;
        let mask = [1, 2, 3, 4];
        let at = frame.len() - payload.len();
        unmask(&mut frame[at..], mask);
        frame.splice(at..at, mask);
        frame
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, Fault> {
        let (mut reader, mut seen) = (Reader::new(1000, &[]), Vec::new());
        for byte in bytes {
            reader.push(&[*byte]);
            while let Some(incoming) = reader.next_message()? {
                seen.push(format!("{incoming:?}"));
            }
        }
        Ok(seen)
    }

    #[test]
    fn messages_come_whole_byte_by_byte_and_at_once() {
        let bytes = [
            masked(TEXT, b"ab"),
            masked(FINAL | PING, b"p"),
            masked(CONTINUATION, b""),
            masked(FINAL | CONTINUATION, b"cde"),
            masked(FINAL | BINARY, &[7; 300]),
            masked(FINAL | PONG, b""),
            masked(FINAL | CLOSE, &1001_u16.to_be_bytes()),
        ]
        .concat();
        let long = [7; 300];
        let expected = [
            Incoming::Part,
            Incoming::Ping(b"p"),
            Incoming::Part,
            Incoming::Message(FrameKind::Text, b"abcde"),
            Incoming::Message(FrameKind::Binary, &long),
            Incoming::Pong,
            Incoming::Close(Some(1001)),
        ];
        assert_eq!(read(&bytes), Ok(expected.iter().map(|incoming| format!("{incoming:?}")).collect()));
        let mut at_once = Reader::new(1000, &bytes);
        for incoming in expected {
            assert_eq!(at_once.next_message(), Ok(Some(incoming)));
        }
        assert_eq!(at_once.next_message(), Ok(None));
    }

    #[test]
    fn what_is_read_is_given_back() {
        let mut reader = Reader::new(1 << 20, &masked(FINAL | BINARY, &[0; 100_000]));
        assert!(reader.next_message().expect("a message").is_some());
        assert_eq!(reader.next_message(), Ok(None));
        assert_eq!(reader.held.capacity(), 0);
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_head_and_by_its_sum() {
        let whole = masked(FINAL | TEXT, &[b'x'; 1001]);
        assert_eq!(read(&whole[..4]), Err(Fault::TooLarge(1000)));
        let split = [masked(TEXT, &[b'x'; 600]), masked(CONTINUATION, &[b'x'; 600])].concat();
        assert_eq!(read(&split), Err(Fault::TooLarge(1000)));
        let endless = [FINAL | TEXT, 255, 255, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(read(&endless), Err(Fault::TooLarge(1000)));
    }

    #[test]
    fn whatever_breaks_the_protocol_has_its_code() {
        let cases: [(&str, Vec<u8>, u16); 12] = [
            ("unmasked", vec![FINAL | TEXT, 0], 1002),
            ("reserved bit", masked(FINAL | 0x40 | TEXT, b""), 1002),
            ("reserved opcode", masked(FINAL | 3, b""), 1002),
            ("split ping", masked(PING, b""), 1002),
            ("long ping", masked(FINAL | PING, &[0; 126]), 1002),
            ("nothing to continue", masked(FINAL | CONTINUATION, b""), 1002),
            ("two at a time", [masked(TEXT, b""), masked(FINAL | TEXT, b"")].concat(), 1002),
            ("close of one byte", masked(FINAL | CLOSE, b"x"), 1002),
            ("close code", masked(FINAL | CLOSE, &1006_u16.to_be_bytes()), 1002),
            ("close reason", masked(FINAL | CLOSE, &[3, 232, 0xff]), 1007),
            ("no text", masked(FINAL | TEXT, &[0xff]), 1007),
            ("no text in parts", [masked(TEXT, &[0xc3]), masked(FINAL | CONTINUATION, b"x")].concat(), 1007),
        ];
        for (what, bytes, code) in cases {
            let fault = read(&bytes).expect_err(what);
            assert_eq!(fault.close_code(), code, "{what}: {fault}");
        }
        // A character may be split over frames.
        assert!(read(&[masked(TEXT, &[0xc3]), masked(FINAL | CONTINUATION, &[0xbc])].concat()).is_ok());
    }
}
