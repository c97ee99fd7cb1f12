//! The websocket as a client of Discord's gateway speaks it (RFC 6455), on bytes alone.
//!
//! Owned, and not a library's, because it is on the way of every event: frames are read straight out of the chunk that came
//! from the socket, and a connection at rest holds no buffer. Extensions are not offered. Knows neither sockets nor packets.

/// The largest message that is taken: as it comes over the wire, perhaps compressed.
pub const MAX_MESSAGE: usize = super::inflate::MAX_PACKET;

/// A buffer larger than this is given back once it is empty.
const KEPT: usize = 16 << 10;

/// What the server sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A whole text or binary message.
    Data(&'a [u8]),
    /// A ping, to be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// An answer to a ping. We send none.
    Pong,
    /// The end, with a code if there was one.
    Close(Option<u16>),
}

/// How the server broke the protocol. The connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Reserved bits are set, though no extension was agreed.
    #[error("a websocket frame has reserved bits set")]
    ReservedBits,
    /// An opcode that RFC 6455 does not have.
    #[error("a websocket frame has the unknown opcode {0}")]
    UnknownOpcode(u8),
    /// Servers do not mask.
    #[error("a websocket frame from the server is masked")]
    Masked,
    /// A control frame is split or over 125 bytes.
    #[error("a websocket control frame is split or too long")]
    BadControlFrame,
    /// A continuation without a start, or a start within a message.
    #[error("a split websocket message is out of order")]
    OutOfOrder,
    /// A message is over [`MAX_MESSAGE`].
    #[error("a websocket message is larger than {MAX_MESSAGE} bytes")]
    TooLarge,
}

/// Collects the server's frames into messages.
#[derive(Debug, Default)]
pub struct Reader {
    /// Bytes that came and are not yet read, when they are not in the caller's chunk.
    held: Vec<u8>,
    /// The frames so far of a message that is split over frames.
    split: Option<Vec<u8>>,
}

/// A reader at work on one chunk. What it does not get to is held for the next.
#[derive(Debug)]
pub struct Chunk<'a> {
    reader: &'a mut Reader,
    /// The chunk, or empty when it was joined to what was held.
    fresh: &'a [u8],
    at: usize,
    /// A split message that was just given out, cleared at the next call.
    given: bool,
}

impl Reader {
    /// Starts with bytes that came together with the handshake.
    pub fn new(held: Vec<u8>) -> Self {
        Self { held, split: None }
    }

    /// Takes bytes in the order of the wire; an empty chunk goes on with what is held.
    pub fn chunk<'a>(&'a mut self, bytes: &'a [u8]) -> Chunk<'a> {
        let joined = !self.held.is_empty();
        if joined {
            self.held.extend_from_slice(bytes);
        }
        Chunk { fresh: if joined { &[] } else { bytes }, reader: self, at: 0, given: false }
    }
}

impl Chunk<'_> {
    /// The next whole message; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the server breaks the protocol.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, ProtocolError> {
        if std::mem::take(&mut self.given) {
            self.reader.split = None;
        }
        loop {
            let bytes = if self.fresh.is_empty() { &self.reader.held[..] } else { self.fresh };
            let Some(frame) = Frame::parse(&bytes[self.at..])? else { return Ok(None) };
            let (start, end) = (self.at + frame.head, self.at + frame.head + frame.length);
            self.at = end;
            // Borrowed anew, field by field, so that the split message can be written to beside it.
            let payload = if self.fresh.is_empty() { &self.reader.held[start..end] } else { &self.fresh[start..end] };
            match (frame.opcode, frame.last, &mut self.reader.split) {
                (CONTINUATION, _, None) | (TEXT | BINARY, _, Some(_)) => return Err(ProtocolError::OutOfOrder),
                (CONTINUATION, last, Some(split)) => {
                    if split.len() + payload.len() > MAX_MESSAGE {
                        return Err(ProtocolError::TooLarge);
                    }
                    split.extend_from_slice(payload);
                    if last {
                        self.given = true;
                        return Ok(self.reader.split.as_deref().map(Message::Data));
                    }
                }
                (TEXT | BINARY, false, split) => *split = Some(payload.to_vec()),
                (TEXT | BINARY, true, None) => return Ok(Some(Message::Data(payload))),
                (CLOSE, ..) => {
                    return Ok(Some(Message::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code)))));
                }
                (PING, ..) => return Ok(Some(Message::Ping(payload))),
                _ => return Ok(Some(Message::Pong)),
            }
        }
    }
}

impl Drop for Chunk<'_> {
    fn drop(&mut self) {
        if self.given {
            self.reader.split = None;
        }
        if self.fresh.is_empty() {
            self.reader.held.drain(..self.at);
            if self.reader.held.is_empty() && self.reader.held.capacity() > KEPT {
                self.reader.held = Vec::new();
            }
        } else {
            self.reader.held.extend_from_slice(&self.fresh[self.at..]);
        }
    }
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A frame's head, once all of the frame is there.
struct Frame {
    opcode: u8,
    last: bool,
    head: usize,
    length: usize,
}

impl Frame {
    fn parse(bytes: &[u8]) -> Result<Option<Self>, ProtocolError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        if second & 0x80 != 0 {
            return Err(ProtocolError::Masked);
        }
        match opcode {
            CONTINUATION | TEXT | BINARY => {}
            CLOSE | PING | PONG if last && second <= 125 => {}
            CLOSE | PING | PONG => return Err(ProtocolError::BadControlFrame),
            unknown => return Err(ProtocolError::UnknownOpcode(unknown)),
        }
        let (head, length) = match second {
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
        let length =
            usize::try_from(length).ok().filter(|length| *length <= MAX_MESSAGE).ok_or(ProtocolError::TooLarge)?;
        Ok((bytes.len() - head >= length).then_some(Self { opcode, last, head, length }))
    }
}

/// Appends a text message to `out`. `mask` is to be a new random number for each frame (RFC 6455, 5.3).
pub fn write_text(out: &mut Vec<u8>, text: &[u8], mask: u32) {
    write_frame(out, TEXT, text, mask);
}

/// Appends a binary message, likewise.
pub fn write_binary(out: &mut Vec<u8>, bytes: &[u8], mask: u32) {
    write_frame(out, BINARY, bytes, mask);
}

/// Appends the answer to a ping. A ping's payload is at most 125 bytes.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8], mask: u32) {
    write_frame(out, PONG, payload, mask);
}

/// Appends a close frame with a code.
pub fn write_close(out: &mut Vec<u8>, code: u16, mask: u32) {
    write_frame(out, CLOSE, &code.to_be_bytes(), mask);
}

fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: u32) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = mask.to_be_bytes();
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame as TheirFrame};
    use tokio_tungstenite::tungstenite::{Message as Theirs, WebSocket, protocol::Role};

    use super::*;

    /// Everything the reader makes of the bytes, which come in chunks of these lengths.
    fn read(bytes: &[u8], cuts: &[usize]) -> Result<Vec<String>, ProtocolError> {
        let (mut reader, mut rest, mut seen) = (Reader::default(), bytes, Vec::new());
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let cut = cuts.next().map_or(rest.len(), |cut| (*cut).clamp(1, rest.len()));
            let (now, later) = rest.split_at(cut);
            rest = later;
            let mut chunk = reader.chunk(now);
            while let Some(message) = chunk.next_message()? {
                seen.push(format!("{message:?}"));
            }
        }
        Ok(seen)
    }

    /// The bytes of these frames as another library writes them.
    fn wire(frames: Vec<TheirFrame>) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            frame.format(&mut out).expect("a Vec takes it");
        }
        out
    }

    fn data(payload: &[u8], code: Data, last: bool) -> TheirFrame {
        TheirFrame::message(payload.to_vec(), OpCode::Data(code), last)
    }

    #[test]
    fn messages_whole_and_split_come_with_pings_between() {
        let bytes = wire(vec![
            data(b"one", Data::Text, true),
            data(b"tw", Data::Binary, false),
            TheirFrame::ping(b"?".to_vec()),
            data(b"o", Data::Continue, true),
            TheirFrame::pong(b"".to_vec()),
            TheirFrame::close(Some(CloseFrame { code: 4009.into(), reason: "late".into() })),
        ]);
        let expected = [
            format!("{:?}", Message::Data(b"one")),
            format!("{:?}", Message::Ping(b"?")),
            format!("{:?}", Message::Data(b"two")),
            format!("{:?}", Message::Pong),
            format!("{:?}", Message::Close(Some(4009))),
        ];
        for cuts in [&[][..], &[1], &[2, 3]] {
            assert_eq!(read(&bytes, cuts).expect("the protocol is kept"), expected, "{cuts:?}");
        }
    }

    #[test]
    fn a_close_without_a_code_is_a_close() {
        assert_eq!(read(&[0x88, 0], &[]).expect("a close"), [format!("{:?}", Message::Close(None))]);
    }

    #[test]
    fn each_breach_is_told_apart() {
        use ProtocolError::*;
        let breaches: [(&[u8], ProtocolError); 8] = [
            (&[0xc1, 0], ReservedBits),
            (&[0x83, 0], UnknownOpcode(3)),
            (&[0x81, 0x80, 0, 0, 0, 0], Masked),
            (&[0x09, 0], BadControlFrame),
            (&[0x89, 126, 0, 126], BadControlFrame),
            (&[0x80, 0], OutOfOrder),
            (&[0x01, 0, 0x81, 0], OutOfOrder),
            (&[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0], TooLarge),
        ];
        for (bytes, breach) in breaches {
            assert_eq!(read(bytes, &[]), Err(breach), "{bytes:?}");
        }
    }

    #[test]
    fn what_a_full_window_left_unread_is_read_later() {
        let bytes = wire(vec![data(b"one", Data::Text, true), data(b"two", Data::Text, true)]);
        let mut reader = Reader::default();
        assert_eq!(reader.chunk(&bytes).next_message(), Ok(Some(Message::Data(b"one"))));
        assert!(!reader.held.is_empty());
        let mut chunk = reader.chunk(&[]);
        assert_eq!(chunk.next_message(), Ok(Some(Message::Data(b"two"))));
        assert_eq!(chunk.next_message(), Ok(None));
        drop(chunk);
        assert!(reader.held.is_empty());
    }

    #[test]
    fn a_reader_at_rest_holds_no_large_buffer() {
        let large = vec![7; 3 << 20];
        let bytes = wire(vec![data(&large, Data::Binary, true)]);
        let mut reader = Reader::default();
        for part in bytes.chunks(64 << 10) {
            let mut chunk = reader.chunk(part);
            while chunk.next_message().expect("the protocol is kept").is_some() {}
        }
        assert_eq!(reader.held.capacity(), 0);
    }

    #[test]
    fn a_server_of_another_library_reads_what_we_write() {
        let mut out = Vec::new();
        let texts = [String::from("{}"), "x".repeat(200), "y".repeat(70_000)];
        for text in &texts {
            write_text(&mut out, text.as_bytes(), 0x1234_5678);
        }
        write_pong(&mut out, b"?", 7);
        write_close(&mut out, 4000, 9);
        let mut server = WebSocket::from_raw_socket(Duplex(std::io::Cursor::new(out)), Role::Server, None);
        for text in texts {
            assert_eq!(server.read().expect("a message"), Theirs::text(text));
        }
        assert_eq!(server.read().expect("a pong"), Theirs::Pong(b"?".to_vec().into()));
        let close = server.read().expect("a close");
        assert!(matches!(close, Theirs::Close(Some(frame)) if u16::from(frame.code) == 4000));
    }

    /// Reads what was written for it, and swallows answers.
    struct Duplex(std::io::Cursor<Vec<u8>>);

    impl std::io::Read for Duplex {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl std::io::Write for Duplex {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn any_messages_survive_any_split(
            messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), 1..4usize), 0..12),
            cuts in prop::collection::vec(1..90usize, 0..20),
        ) {
            let mut frames = Vec::new();
            for (message, parts) in &messages {
                let size = (message.len() / parts).max(1);
                let mut pieces: Vec<&[u8]> = message.chunks(size).collect();
                if pieces.is_empty() { pieces.push(&[]); }
                for (i, piece) in pieces.iter().enumerate() {
                    let code = if i == 0 { Data::Binary } else { Data::Continue };
                    frames.push(data(piece, code, i + 1 == pieces.len()));
                }
            }
            let expected: Vec<String> = messages.iter().map(|(m, _)| format!("{:?}", Message::Data(m))).collect();
            prop_assert_eq!(read(&wire(frames), &cuts).expect("the protocol is kept"), expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(1..9usize, 0..9)) {
            let _ = read(&bytes, &cuts);
        }
    }
}
