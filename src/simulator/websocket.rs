//! Websocket frames, the server's side (RFC 6455): written as wanted, wrong ones included, and read strictly.
//!
//! A library would mend or refuse what this simulator is told to do: cut messages into frames anywhere, send frames
//! that no one may send. Sans-I/O: bytes in, messages out.

use std::collections::VecDeque;

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole message.
    Message(Kind, Vec<u8>),
    /// A ping with its contents.
    Ping(Vec<u8>),
    /// A close, with its code if there is one.
    Close(Option<u16>),
}

/// Why a client's bytes cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More than [`MAX_MESSAGE`].
    #[error("message is over 4,096 bytes")]
    TooLong,
    /// Against RFC 6455.
    #[error("{0}")]
    Protocol(&'static str),
}

/// Discord's limit for a client's packet.
pub const MAX_MESSAGE: usize = 4096;

const FINAL: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Collects a client's bytes into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: VecDeque<u8>,
    partial: Option<(Kind, Vec<u8>)>,
}

impl Decoder {
    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The next thing that is whole.
    pub fn next(&mut self) -> Result<Option<Incoming>, FrameError> {
        while let Some((head, payload)) = self.frame()? {
            let last = head & FINAL != 0;
            match head & 0x0f {
                op @ (TEXT | BINARY) => {
                    if self.partial.is_some() {
                        return Err(FrameError::Protocol("a message began inside another"));
                    }
                    self.partial = Some((if op == TEXT { Kind::Text } else { Kind::Binary }, payload));
                }
                CONTINUATION => {
                    let (_, message) = self.partial.as_mut().ok_or(FrameError::Protocol("nothing to continue"))?;
                    message.extend_from_slice(&payload);
                }
                CLOSE => {
                    let code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                    return Ok(Some(Incoming::Close(code)));
                }
                PING => return Ok(Some(Incoming::Ping(payload))),
                PONG => continue,
                _ => return Err(FrameError::Protocol("a frame with a reserved opcode")),
            }
            if self.partial.as_ref().is_some_and(|(_, message)| message.len() > MAX_MESSAGE) {
                return Err(FrameError::TooLong);
            }
            if last && let Some((kind, message)) = self.partial.take() {
                return Ok(Some(Incoming::Message(kind, message)));
            }
        }
        Ok(None)
    }

    /// The next whole frame: its first byte and its payload, unmasked.
    fn frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, FrameError> {
        let bytes: &[u8] = self.bytes.make_contiguous();
        let &[head, second, ..] = bytes else { return Ok(None) };
        if head & 0x70 != 0 {
            return Err(FrameError::Protocol("a reserved bit is set, but no extension was agreed"));
        }
        if second & 0x80 == 0 {
            return Err(FrameError::Protocol("a client's frame must be masked"));
        }
        let (length, start) = match (second & 0x7f, bytes) {
            (126, &[_, _, a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 4),
            (127, &[_, _, a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
            (126 | 127, _) => return Ok(None),
            (length, _) => (u64::from(length), 2),
        };
        if length > MAX_MESSAGE as u64 {
            return Err(FrameError::TooLong);
        }
        let end = start + 4 + length as usize;
        if bytes.len() < end {
            return Ok(None);
        }
        let mask = &bytes[start..start + 4];
        let payload = bytes[start + 4..end].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        self.bytes.drain(..end);
        Ok(Some((head, payload)))
    }
}

/// Writes a message, cut into at most `frames` frames.
pub fn write_message(out: &mut Vec<u8>, kind: Kind, payload: &[u8], frames: usize) {
    let mut op = match kind {
        Kind::Text => TEXT,
        Kind::Binary => BINARY,
    };
    let size = payload.len().div_ceil(frames.max(1)).max(1);
    let mut rest = payload;
    loop {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        write_frame(out, op | if rest.is_empty() { FINAL } else { 0 }, piece);
        if rest.is_empty() {
            return;
        }
        op = CONTINUATION;
    }
}

/// Writes a close with a code.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let mut payload = code.to_be_bytes().to_vec();
    // A control frame holds 125 bytes.
    payload.extend(reason.bytes().take(123));
    write_frame(out, FINAL | CLOSE, &payload);
}

/// Writes the answer to a ping.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, FINAL | PONG, payload);
}

/// Writes a ping.
pub fn write_ping(out: &mut Vec<u8>) {
    write_frame(out, FINAL | PING, b"simulator");
}

/// Writes what is no frame: all reserved bits and a reserved opcode.
pub fn write_garbage(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x73, 0x05, 0xde, 0xad, 0xbe, 0xef, 0x00]);
}

/// Writes the head of a message of a terabyte, and nothing of it.
pub fn write_endless(out: &mut Vec<u8>) {
    out.extend_from_slice(&[FINAL | TEXT, 127]);
    out.extend_from_slice(&(1_u64 << 40).to_be_bytes());
}

fn write_frame(out: &mut Vec<u8>, head: u8, payload: &[u8]) {
    out.push(head);
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

    fn masked(head: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_frame(&mut frame, head, payload);
        frame[1] |= 0x80;
        let start = frame.len() - payload.len();
        let mask = [7, 8, 9, 10];
        for (byte, mask) in frame[start..].iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        frame.splice(start..start, mask);
        frame
    }

    #[test]
    fn a_message_in_single_bytes_and_frames_with_a_ping_between_is_put_together() {
        let mut bytes = masked(TEXT, b"hel");
        bytes.extend(masked(FINAL | PING, b"p"));
        bytes.extend(masked(FINAL, b"lo"));
        let mut decoder = Decoder::default();
        let mut got = Vec::new();
        for byte in bytes {
            decoder.push(&[byte]);
            got.extend(decoder.next().expect("valid frames"));
        }
        assert_eq!(got, [Incoming::Ping(b"p".to_vec()), Incoming::Message(Kind::Text, b"hello".to_vec())]);
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_head_and_by_its_sum() {
        let mut decoder = Decoder::default();
        decoder.push(&masked(FINAL | TEXT, &[b'x'; 4097])[..4]);
        assert_eq!(decoder.next(), Err(FrameError::TooLong));
        let mut decoder = Decoder::default();
        decoder.push(&masked(TEXT, &[b'x'; 4096]));
        decoder.push(&masked(FINAL, b"x"));
        assert_eq!(decoder.next(), Err(FrameError::TooLong));
    }

    #[test]
    fn unmasked_and_reserved_frames_are_refused() {
        for frame in
            [vec![FINAL | TEXT, 1, b'x'], masked(FINAL | 0x40 | TEXT, b""), masked(FINAL | 3, b""), masked(FINAL, b"")]
        {
            let mut decoder = Decoder::default();
            decoder.push(&frame);
            assert!(matches!(decoder.next(), Err(FrameError::Protocol(_))), "{frame:?}");
        }
    }

    #[test]
    fn a_message_is_cut_into_as_many_frames_as_asked() {
        let mut out = Vec::new();
        write_message(&mut out, Kind::Binary, b"abcde", 3);
        assert_eq!(out, [2, 2, b'a', b'b', 0, 2, b'c', b'd', 0x80, 1, b'e']);
    }
}
