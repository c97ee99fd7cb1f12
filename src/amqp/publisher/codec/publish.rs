//! A message as `basic.publish`, header and body frames, appended to a buffer. The body is copied once, nothing is allocated
//! but the buffer's own growth.

use super::frame::{FRAME_END, Frame, FrameKind};
use super::{CHANNEL, FRAME_MIN_SIZE, FRAME_OVERHEAD};

/// A header's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// A number.
    Int(i64),
    /// A text.
    Text(&'a str),
}

/// A message's properties, as many of the protocol's as events carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// What the body is.
    pub content_type: Option<&'a str>,
    /// Free fields by name.
    pub headers: &'a [(&'a str, Field<'a>)],
    /// Whether queues keep it over a broker's restart: delivery-mode 2, else 1.
    pub persistent: bool,
    /// After how many milliseconds in a queue it is dropped, as text: that is how the protocol has it.
    pub expiration: Option<&'a str>,
    /// Its name.
    pub message_id: Option<&'a str>,
    /// When it was made, in Unix seconds.
    pub timestamp: Option<u64>,
    /// Its `type`.
    pub kind: Option<&'a str>,
    /// Who made it.
    pub app_id: Option<&'a str>,
}

/// A message and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// Whether the broker shall say when no queue took it.
    pub mandatory: bool,
    /// The properties.
    pub properties: Properties<'a>,
    /// A byte that goes before the body as a part of it: what bytes taken from elsewhere lack to stand alone.
    pub prefix: Option<u8>,
    /// The body, sent byte for byte.
    pub body: &'a [u8],
    /// The shard it came from; comes back when the message has to be given up.
    pub shard: u32,
    /// Its sequence number there, likewise.
    pub seq: u64,
}

impl Message<'_> {
    /// The length of the whole body.
    fn body_len(&self) -> usize {
        usize::from(self.prefix.is_some()) + self.body.len()
    }
}

/// The message cannot be put into AMQP's frames.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpublishable {
    /// Short strings have one byte of length.
    #[error("the {field} has {length} bytes, AMQP allows 255")]
    TooLong {
        /// Which of the message's fields.
        field: &'static str,
        /// Its length.
        length: usize,
    },
    /// Header frames cannot be split, and every peer takes 4,096 bytes.
    #[error("the properties need {length} bytes, at most {FRAME_MIN_SIZE} fit a frame of every broker")]
    PropertiesTooLarge {
        /// The header frame's length.
        length: usize,
    },
    /// RabbitMQ takes no message above 512 MiB.
    #[error("the body has {length} bytes, RabbitMQ takes at most {MAX_BODY}")]
    BodyTooLarge {
        /// The body's length.
        length: usize,
    },
}

/// RabbitMQ's absolute limit for a body.
pub const MAX_BODY: usize = 512 * 1024 * 1024;

/// An upper bound of what [`encode`] appends.
pub fn encoded_bound(message: &Message<'_>, frame_max: usize) -> usize {
    let body = message.body_len();
    let frames = body / (frame_max - FRAME_OVERHEAD) + 1;
    // The method with two short strings, the largest header frame.
    (24 + 2 * 255) + FRAME_MIN_SIZE + body + frames * FRAME_OVERHEAD
}

/// Appends the message's frames, none longer than `frame_max`.
///
/// # Errors
/// When it does not fit the protocol; `out` is then as it was.
pub fn encode(message: &Message<'_>, frame_max: usize, out: &mut Vec<u8>) -> Result<(), Unpublishable> {
    let before = out.len();
    let result = try_encode(message, frame_max, out);
    if result.is_err() {
        out.truncate(before);
    }
    result
}

fn try_encode(message: &Message<'_>, frame_max: usize, out: &mut Vec<u8>) -> Result<(), Unpublishable> {
    let length = message.body_len();
    if length > MAX_BODY {
        return Err(Unpublishable::BodyTooLarge { length });
    }
    let method = open_frame(FrameKind::Method, out);
    out.extend_from_slice(&[0, 60, 0, 40, 0, 0]);
    short_str("exchange", message.exchange, out)?;
    short_str("routing key", message.routing_key, out)?;
    out.push(u8::from(message.mandatory));
    close_frame(method, out);

    let header = open_frame(FrameKind::Header, out);
    out.extend_from_slice(&[0, 60, 0, 0]);
    out.extend_from_slice(&(length as u64).to_be_bytes());
    properties(&message.properties, out)?;
    close_frame(header, out);
    let length = out.len() - header;
    if length > FRAME_MIN_SIZE {
        return Err(Unpublishable::PropertiesTooLarge { length });
    }

    let most = frame_max - FRAME_OVERHEAD;
    let mut rest = message.body;
    if let Some(prefix) = message.prefix {
        let (first, behind) = rest.split_at(rest.len().min(most - 1));
        body_frame(&[prefix], first, out);
        rest = behind;
    }
    for piece in rest.chunks(most) {
        body_frame(&[], piece, out);
    }
    Ok(())
}

fn body_frame(prefix: &[u8], piece: &[u8], out: &mut Vec<u8>) {
    let frame = open_frame(FrameKind::Body, out);
    out.extend_from_slice(prefix);
    out.extend_from_slice(piece);
    close_frame(frame, out);
}

fn open_frame(kind: FrameKind, out: &mut Vec<u8>) -> usize {
    let [c0, c1] = CHANNEL.to_be_bytes();
    out.extend_from_slice(&[kind.byte(), c0, c1, 0, 0, 0, 0]);
    out.len() - 7
}

fn close_frame(frame: usize, out: &mut Vec<u8>) {
    let length = (out.len() - frame - 7) as u32;
    out[frame + 3..frame + 7].copy_from_slice(&length.to_be_bytes());
    out.push(FRAME_END);
}

fn short_str(field: &'static str, text: &str, out: &mut Vec<u8>) -> Result<(), Unpublishable> {
    let length = u8::try_from(text.len()).map_err(|_| Unpublishable::TooLong { field, length: text.len() })?;
    out.push(length);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// The flags say which properties follow; these are their bits, in the order in which they follow.
const CONTENT_TYPE: u16 = 1 << 15;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const TYPE: u16 = 1 << 5;
const APP_ID: u16 = 1 << 3;

fn properties(properties: &Properties<'_>, out: &mut Vec<u8>) -> Result<(), Unpublishable> {
    let flags_at = out.len();
    let mut flags = DELIVERY_MODE;
    out.extend_from_slice(&[0, 0]);
    let mut optional = |flag, field, text: Option<&str>, out: &mut Vec<u8>| match text {
        Some(text) => {
            flags |= flag;
            short_str(field, text, out)
        }
        None => Ok(()),
    };
    optional(CONTENT_TYPE, "content-type", properties.content_type, out)?;
    if !properties.headers.is_empty() {
        headers(properties.headers, out)?;
    }
    out.push(if properties.persistent { 2 } else { 1 });
    optional(EXPIRATION, "expiration", properties.expiration, out)?;
    optional(MESSAGE_ID, "message id", properties.message_id, out)?;
    if let Some(seconds) = properties.timestamp {
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    optional(TYPE, "type", properties.kind, out)?;
    optional(APP_ID, "app id", properties.app_id, out)?;
    if !properties.headers.is_empty() {
        flags |= HEADERS;
    }
    if properties.timestamp.is_some() {
        flags |= TIMESTAMP;
    }
    out[flags_at..flags_at + 2].copy_from_slice(&flags.to_be_bytes());
    Ok(())
}

fn headers(fields: &[(&str, Field<'_>)], out: &mut Vec<u8>) -> Result<(), Unpublishable> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    for (name, value) in fields {
        short_str("header's name", name, out)?;
        match value {
            Field::Int(number) => {
                out.push(b'l');
                out.extend_from_slice(&number.to_be_bytes());
            }
            Field::Text(text) => {
                if text.len() > FRAME_MIN_SIZE {
                    return Err(Unpublishable::PropertiesTooLarge { length: text.len() });
                }
                out.push(b'S');
                out.extend_from_slice(&(text.len() as u32).to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Appends a message that [`encode`] had framed, its body cut anew for a smaller `frame_max`.
pub fn recut(framed: &[u8], frame_max: usize, out: &mut Vec<u8>) {
    let piece = frame_max - FRAME_OVERHEAD;
    let mut rest = framed;
    // What the frame under way still takes; body frames are filled across the old cuts.
    let mut open: Option<usize> = None;
    while let Some((frame, size)) = own_frame(rest) {
        if frame.kind == FrameKind::Body {
            let mut payload = frame.payload;
            while !payload.is_empty() {
                let at = *open.get_or_insert_with(|| open_frame(FrameKind::Body, out));
                let n = payload.len().min(piece - (out.len() - at - 7));
                out.extend_from_slice(&payload[..n]);
                payload = &payload[n..];
                if out.len() - at - 7 == piece {
                    close_frame(at, out);
                    open = None;
                }
            }
        } else {
            out.extend_from_slice(&rest[..size]);
        }
        rest = &rest[size..];
    }
    if let Some(at) = open {
        close_frame(at, out);
    }
}

/// The routing key of a message that [`encode`] had framed.
pub fn routing_key(framed: &[u8]) -> &str {
    let (frame, _) = own_frame(framed).expect("a message begins with its method");
    let exchange = usize::from(frame.payload[6]);
    let key = &frame.payload[7 + exchange..];
    std::str::from_utf8(&key[1..1 + usize::from(key[0])]).expect("was framed from a str")
}

/// The length of the body of a message that [`encode`] had framed.
pub fn body_size(framed: &[u8]) -> u64 {
    let (_, method) = own_frame(framed).expect("a message begins with its method");
    let (header, _) = own_frame(&framed[method..]).expect("the header follows the method");
    header.payload[4..].first_chunk().map_or(0, |size| u64::from_be_bytes(*size))
}

/// The message id of a message that [`encode`] had framed, if it has one.
pub fn message_id(framed: &[u8]) -> Option<&str> {
    let (_, method) = own_frame(framed)?;
    let (header, _) = own_frame(&framed[method..])?;
    message_id_in(header.payload)
}

/// The message id in a content header, ours or one that came back, if it has one.
pub fn message_id_in(header: &[u8]) -> Option<&str> {
    let (flags, mut rest) = header.get(12..)?.split_first_chunk()?;
    let flags = u16::from_be_bytes(*flags);
    let short = |rest: &mut &[u8]| -> Option<usize> {
        let length = 1 + usize::from(*rest.first()?);
        *rest = rest.get(length..)?;
        Some(length)
    };
    if flags & CONTENT_TYPE != 0 {
        short(&mut rest)?;
    }
    if flags & HEADERS != 0 {
        let (length, after) = rest.split_first_chunk()?;
        rest = after.get(u32::from_be_bytes(*length) as usize..)?;
    }
    if flags & DELIVERY_MODE != 0 {
        rest = rest.get(1..)?;
    }
    if flags & EXPIRATION != 0 {
        short(&mut rest)?;
    }
    if flags & MESSAGE_ID == 0 {
        return None;
    }
    let id = rest;
    let length = short(&mut rest)?;
    std::str::from_utf8(&id[1..length]).ok()
}

fn own_frame(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    Frame::first(bytes, usize::MAX).expect("we framed it ourselves")
}
