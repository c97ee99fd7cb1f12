//! Takes the transport compression off: one inflater a connection, whose output goes into a buffer that shards share.
//!
//! Knows neither sockets nor packets. Output is bounded, so that a bomb ends the connection and not the process.
//! Discord's documentation: "Gateway", "Transport Compression"; spec/discord.md, "Compression".

use flate2::{Decompress, FlushDecompress, Status};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::compression::Compression;

/// The largest packet that is taken, inflated: twice the largest ones known (GUILD_CREATE of huge guilds, 30 MB).
pub const MAX_PACKET: usize = 64 << 20;

/// Ends a packet of a zlib stream (a sync flush).
const ZLIB_SUFFIX: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The largest window of a zstd frame that is taken, as a power of two: 8 MiB. Discord was seen to use 18 (256 KiB).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A buffer keeps this much between packets; what one large packet took beyond it is given back.
const KEPT: usize = 256 << 10;

/// Why a message could not be inflated. The connection's context is spoiled: it can only be closed and resumed on a new one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// The bytes are not of the agreed format.
    #[error("the compressed stream is broken: {0}")]
    Broken(String),
    /// A packet is larger than [`MAX_PACKET`].
    #[error("a packet is larger than {MAX_PACKET} bytes")]
    TooLarge,
}

/// Where packets are inflated to. Shards of one thread share one: its contents are used before the next packet comes.
///
/// Its length only grows while it is in use, so that it is zeroed once and not for every packet.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    /// Room after the first `used` bytes.
    fn room(&mut self, used: usize) -> Result<&mut [u8], InflateError> {
        if used == self.bytes.len() {
            if used >= MAX_PACKET {
                return Err(InflateError::TooLarge);
            }
            self.bytes.resize((used * 2).clamp(KEPT, MAX_PACKET), 0);
        }
        Ok(&mut self.bytes[used..])
    }

    /// Gives back what a large packet took. To be called when the packet is done with.
    pub fn trim(&mut self) {
        if self.bytes.len() > KEPT {
            self.bytes = Vec::new();
        }
    }
}

/// Undoes the compression of one connection.
pub struct Inflater {
    context: Context,
    /// The start of a packet whose messages have not all come (zlib-stream only).
    partial: Vec<u8>,
}

enum Context {
    None,
    Zlib(Zlib),
    Zstd(DCtx<'static>),
}

/// A zlib stream, read without its checksum: that stands at the stream's end, which never comes, and keeping it up to date
/// took a tenth of the work.
struct Zlib {
    context: Decompress,
    /// Whether the stream's header was read.
    began: bool,
}

impl Zlib {
    /// The deflate data of a message: all of it, but for the two bytes that begin the stream (RFC 1950, 2.2).
    fn deflated<'a>(&mut self, message: &'a [u8]) -> Result<&'a [u8], InflateError> {
        if std::mem::replace(&mut self.began, true) {
            return Ok(message);
        }
        match message.split_first_chunk() {
            // Method 8, a window of at most 32 KiB, no dictionary, and the check bits.
            Some((&[method, flags], deflated))
                if method & 0x0f == 8
                    && method >> 4 <= 7
                    && flags & 0x20 == 0
                    && u16::from_be_bytes([method, flags]) % 31 == 0 =>
            {
                Ok(deflated)
            }
            _ => Err(InflateError::Broken("it does not begin with a zlib header".into())),
        }
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let compression = match self.context {
            Context::None => Compression::None,
            Context::Zlib(_) => Compression::ZlibStream,
            Context::Zstd(_) => Compression::ZstdStream,
        };
        f.debug_struct("Inflater").field("compression", &compression).field("partial", &self.partial.len()).finish()
    }
}

impl Inflater {
    /// An inflater for a new connection.
    pub fn new(compression: Compression) -> Self {
        let context = match compression {
            Compression::None => Context::None,
            Compression::ZlibStream => Context::Zlib(Zlib { context: Decompress::new(false), began: false }),
            Compression::ZstdStream => {
                let mut context = DCtx::create();
                context
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .expect("the window is within zstd's own bounds");
                Context::Zstd(context)
            }
        };
        Self { context, partial: Vec::new() }
    }

    /// Takes a websocket message; gives the packet that it completes, if it does.
    ///
    /// # Errors
    /// See [`InflateError`]; the inflater is then of no more use.
    pub fn inflate<'a>(&mut self, message: &'a [u8], buffer: &'a mut Buffer) -> Result<Option<&'a [u8]>, InflateError> {
        match &mut self.context {
            Context::None => Ok(Some(message)),
            Context::Zstd(context) => zstd(context, message, buffer).map(Some),
            Context::Zlib(context) => {
                if self.partial.is_empty() && message.ends_with(&ZLIB_SUFFIX) {
                    return zlib(context, message, buffer).map(Some);
                }
                if self.partial.len() + message.len() > MAX_PACKET {
                    return Err(InflateError::TooLarge);
                }
                // Looked at as one, since the suffix itself may be split.
                self.partial.extend_from_slice(message);
                if !self.partial.ends_with(&ZLIB_SUFFIX) {
                    return Ok(None);
                }
                let whole = std::mem::take(&mut self.partial);
                zlib(context, &whole, buffer).map(Some)
            }
        }
    }
}

fn zlib<'a>(stream: &mut Zlib, message: &[u8], buffer: &'a mut Buffer) -> Result<&'a [u8], InflateError> {
    let message = stream.deflated(message)?;
    let context = &mut stream.context;
    let (mut read, mut written) = (0, 0);
    loop {
        let room = buffer.room(written)?;
        let (length, before_in, before_out) = (room.len(), context.total_in(), context.total_out());
        let status = context
            .decompress(&message[read..], room, FlushDecompress::Sync)
            .map_err(|error| InflateError::Broken(error.to_string()))?;
        let (consumed, produced) = (context.total_in() - before_in, context.total_out() - before_out);
        read += usize::try_from(consumed).expect("no more than the message");
        written += usize::try_from(produced).expect("no more than the room");
        if status == Status::StreamEnd {
            return Err(InflateError::Broken("the zlib stream ended".into()));
        }
        // Room left over means that all output is out.
        if usize::try_from(produced).is_ok_and(|produced| produced < length) {
            if read == message.len() {
                return Ok(&buffer.bytes[..written]);
            }
            if consumed == 0 {
                return Err(InflateError::Broken("the zlib stream does not go on".into()));
            }
        }
    }
}

fn zstd<'a>(context: &mut DCtx<'_>, message: &[u8], buffer: &'a mut Buffer) -> Result<&'a [u8], InflateError> {
    let (mut input, mut written) = (InBuffer::around(message), 0);
    loop {
        let room = buffer.room(written)?;
        let length = room.len();
        let mut output = OutBuffer::around(room);
        context
            .decompress_stream(&mut output, &mut input)
            .map_err(|code| InflateError::Broken(zstd_safe::get_error_name(code).to_owned()))?;
        let produced = output.pos();
        written += produced;
        if produced < length && input.pos == message.len() {
            return Ok(&buffer.bytes[..written]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compress, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    /// Compresses packets as Discord does: one stream, flushed after each.
    fn zlib_messages(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut context = Compress::new(flate2::Compression::new(6), true);
        packets
            .iter()
            .map(|packet| {
                let mut message = Vec::with_capacity(packet.len() + 1024);
                context.compress_vec(packet, &mut message, FlushCompress::Sync).expect("it compresses");
                assert!(message.ends_with(&ZLIB_SUFFIX));
                message
            })
            .collect()
    }

    fn zstd_messages(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut context = zstd_safe::CCtx::create();
        packets
            .iter()
            .map(|packet| {
                let mut message = vec![0; packet.len() + 1024];
                let mut output = OutBuffer::around(&mut message[..]);
                let mut input = InBuffer::around(packet);
                while context
                    .compress_stream2(&mut output, &mut input, zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_flush)
                    .expect("it compresses")
                    != 0
                {}
                let written = output.pos();
                message.truncate(written);
                message
            })
            .collect()
    }

    fn packets() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let words = prop::collection::vec(prop_oneof!["[a-z]{0,30}", "x{0,3000}"], 0..40);
        prop::collection::vec(words.prop_map(|words| format!("{{{}}}", words.concat()).into_bytes()), 1..8)
    }

    proptest! {
        #[test]
        fn zlib_packets_come_back_however_they_are_split(packets in packets(), cuts in prop::collection::vec(1..400usize, 0..40)) {
            let (mut inflater, mut buffer) = (Inflater::new(Compression::ZlibStream), Buffer::default());
            let mut cuts = cuts.into_iter();
            for (packet, message) in packets.iter().zip(zlib_messages(&packets)) {
                let mut start = 0;
                loop {
                    let end = cuts.next().map_or(message.len(), |cut| (start + cut).min(message.len()));
                    let inflated = inflater.inflate(&message[start..end], &mut buffer).expect("a piece");
                    if end == message.len() {
                        prop_assert_eq!(inflated, Some(&packet[..]));
                        break;
                    }
                    // A piece that happens to end like a packet would be taken for one: the protocol has no other sign.
                    prop_assume!(!message[..end].ends_with(&ZLIB_SUFFIX));
                    prop_assert_eq!(inflated, None);
                    start = end;
                }
            }
        }

        #[test]
        fn zstd_packets_come_back(packets in packets()) {
            let (mut inflater, mut buffer) = (Inflater::new(Compression::ZstdStream), Buffer::default());
            for (packet, message) in packets.iter().zip(zstd_messages(&packets)) {
                prop_assert_eq!(inflater.inflate(&message, &mut buffer).expect("a packet"), Some(&packet[..]));
            }
        }

        #[test]
        fn garbage_is_an_error_or_nothing_and_never_a_panic(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..5), zlib: bool) {
            let compression = if zlib { Compression::ZlibStream } else { Compression::ZstdStream };
            let (mut inflater, mut buffer) = (Inflater::new(compression), Buffer::default());
            for mut message in messages {
                message.extend_from_slice(&ZLIB_SUFFIX);
                if inflater.inflate(&message, &mut buffer).is_err() { break; }
            }
        }
    }

    #[test]
    fn a_packet_of_several_megabytes_grows_the_buffer_and_trim_gives_it_back() {
        let mut text = Vec::new();
        for i in 0..400_000 {
            write!(text, "member {i}, ").expect("a Vec takes it");
        }
        let message = zlib_messages(std::slice::from_ref(&text)).remove(0);
        let (mut inflater, mut buffer) = (Inflater::new(Compression::ZlibStream), Buffer::default());
        assert_eq!(inflater.inflate(&message, &mut buffer), Ok(Some(&text[..])));
        buffer.trim();
        assert_eq!(buffer.bytes.capacity(), 0);
    }

    #[test]
    fn what_does_not_begin_as_a_zlib_stream_is_refused() {
        for start in [&b"{\"op\":1"[..], &[0x78, 0x9d], &[0x78, 0xbb], &[0x88, 0x1c], &[]] {
            let message = [start, &ZLIB_SUFFIX].concat();
            let mut buffer = Buffer::default();
            let refused = Inflater::new(Compression::ZlibStream).inflate(&message, &mut buffer).map(|_| ());
            assert_eq!(refused, Err(InflateError::Broken("it does not begin with a zlib header".into())), "{start:x?}");
        }
    }

    #[test]
    fn a_bomb_is_an_error() {
        let bomb = vec![0; MAX_PACKET + 1];
        for (compression, message) in [
            (Compression::ZlibStream, zlib_messages(std::slice::from_ref(&bomb)).remove(0)),
            (Compression::ZstdStream, zstd_messages(&[bomb]).remove(0)),
        ] {
            let mut buffer = Buffer::default();
            let result = Inflater::new(compression).inflate(&message, &mut buffer).map(|_| ());
            assert_eq!(result, Err(InflateError::TooLarge), "{compression:?}");
        }
    }
}
