//! How packets become websocket messages: plain, payload compression, zlib-stream, zstd-stream.
//!
//! One context a connection, a flush a packet, as Discord does. A flood that was compressed beforehand is made of
//! segments that refer to nothing before them, so that other packets may go between two segments.

use flate2::{Compress, Compression, FlushCompress};
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use super::websocket::Kind;

/// The transport compression of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Packets as they are; with identify's `compress` large ones are zlib streams of their own.
    None,
    /// `compress=zlib-stream`
    Zlib,
    /// `compress=zstd-stream`
    Zstd,
}

impl Transport {
    /// From the query's `compress`; `None` if Discord knows no such compression.
    pub fn from_query(value: Option<&str>) -> Option<Self> {
        match value {
            None | Some("") => Some(Self::None),
            Some("zlib-stream") => Some(Self::Zlib),
            Some("zstd-stream") => Some(Self::Zstd),
            Some(_) => None,
        }
    }
}

/// From this size on payload compression compresses.
const PAYLOAD_THRESHOLD: usize = 1_024;
/// Discord's window as captured: 256 KiB.
const ZSTD_WINDOW_LOG: u32 = 18;
const LEVEL: u32 = 6;

/// Turns packets into messages.
pub enum Compressor {
    /// See [`Transport::None`].
    None {
        /// In which messages packets go that are not compressed: those of JSON are text.
        kind: Kind,
        /// Whether the client identified with `compress: true`.
        payloads: bool,
    },
    /// A zlib stream that never ends: its two bytes of header, then raw deflate.
    Zlib {
        /// The context.
        context: Box<Compress>,
        /// Whether the header is out.
        begun: bool,
    },
    /// A zstd frame that ends only before a segment.
    Zstd {
        /// The context.
        context: CCtx<'static>,
        /// Bytes that end a frame, to go before the next packet.
        pending: Vec<u8>,
    },
}

impl Compressor {
    /// A fresh context. Packets that are not compressed go in messages of this kind.
    pub fn new(transport: Transport, kind: Kind) -> Self {
        match transport {
            Transport::None => Self::None { kind, payloads: false },
            Transport::Zlib => {
                Self::Zlib { context: Box::new(Compress::new(Compression::new(LEVEL), false)), begun: false }
            }
            Transport::Zstd => Self::Zstd { context: zstd_context(), pending: Vec::new() },
        }
    }

    /// Switches payload compression on; transport compression rules it out, and packets that are not text.
    pub fn compress_payloads(&mut self) {
        if let Self::None { kind: Kind::Text, payloads } = self {
            *payloads = true;
        }
    }

    /// The message of one packet.
    pub fn packet(&mut self, packet: &[u8]) -> (Kind, Vec<u8>) {
        match self {
            Self::None { payloads: true, .. } if packet.len() >= PAYLOAD_THRESHOLD => {
                let mut out = Vec::with_capacity(packet.len() / 2 + 64);
                deflate(&mut Compress::new(Compression::new(LEVEL), true), packet, &mut out, FlushCompress::Finish);
                (Kind::Binary, out)
            }
            Self::None { kind, .. } => (*kind, packet.to_vec()),
            Self::Zlib { context, begun } => {
                let mut out = Vec::with_capacity(packet.len() / 2 + 64);
                if !std::mem::replace(begun, true) {
                    out.extend_from_slice(&[0x78, 0x9c]);
                }
                deflate(context, packet, &mut out, FlushCompress::Sync);
                (Kind::Binary, out)
            }
            Self::Zstd { context, pending } => {
                let mut out = std::mem::take(pending);
                zstd(context, packet, &mut out);
                (Kind::Binary, out)
            }
        }
    }

    /// A context for a segment: a run of packets that refer to nothing before them.
    pub fn segment(&self) -> Self {
        match self {
            Self::None { kind, payloads } => Self::None { kind: *kind, payloads: *payloads },
            // The header stands once, at the beginning of the connection.
            Self::Zlib { .. } => {
                Self::Zlib { context: Box::new(Compress::new(Compression::new(LEVEL), false)), begun: true }
            }
            Self::Zstd { .. } => Self::Zstd { context: zstd_context(), pending: Vec::new() },
        }
    }

    /// The bytes that must go before a segment's first message, within it.
    pub fn before_segment(&mut self) -> Vec<u8> {
        match self {
            Self::None { .. } => Vec::new(),
            Self::Zlib { context, begun } => {
                debug_assert!(*begun, "Hello went out first");
                // What comes after the segment may not refer to what came before it.
                context.reset();
                Vec::new()
            }
            Self::Zstd { context, pending } => {
                let mut out = std::mem::take(pending);
                zstd_end(context, &mut out);
                out
            }
        }
    }

    /// Ends a segment's context: the bytes that must go before whatever follows the segment.
    pub fn end_segment(mut self) -> Vec<u8> {
        match &mut self {
            Self::None { .. } | Self::Zlib { .. } => Vec::new(),
            Self::Zstd { context, .. } => {
                let mut out = Vec::new();
                zstd_end(context, &mut out);
                out
            }
        }
    }

    /// Notes what [`Self::end_segment`] gave.
    pub fn after_segment(&mut self, end: Vec<u8>) {
        if let Self::Zstd { pending, .. } = self {
            *pending = end;
        }
    }

    /// A packet of `mebibytes` MiB of nothing in few bytes; `None` without transport compression.
    pub fn bomb(&mut self, mebibytes: u32) -> Option<(Kind, Vec<u8>)> {
        let blank = vec![b' '; 1 << 20];
        let mut out = Vec::new();
        match self {
            Self::None { .. } => return None,
            Self::Zlib { context, begun } => {
                if !std::mem::replace(begun, true) {
                    out.extend_from_slice(&[0x78, 0x9c]);
                }
                for _ in 0..mebibytes {
                    deflate(context, &blank, &mut out, FlushCompress::None);
                }
                deflate(context, b"{}", &mut out, FlushCompress::Sync);
            }
            Self::Zstd { context, pending } => {
                out = std::mem::take(pending);
                for _ in 0..mebibytes {
                    zstd(context, &blank, &mut out);
                }
                zstd(context, b"{}", &mut out);
            }
        }
        Some((Kind::Binary, out))
    }
}

fn deflate(context: &mut Compress, mut input: &[u8], out: &mut Vec<u8>, flush: FlushCompress) {
    loop {
        out.reserve(input.len() / 2 + 64);
        let before = context.total_in();
        context.compress_vec(input, out, flush).expect("deflating cannot fail");
        input = &input[(context.total_in() - before) as usize..];
        // Room left: nothing is held back.
        if input.is_empty() && out.len() < out.capacity() {
            return;
        }
    }
}

fn zstd_context() -> CCtx<'static> {
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(LEVEL as i32),
        CParameter::WindowLog(ZSTD_WINDOW_LOG),
        CParameter::ContentSizeFlag(false),
    ] {
        context.set_parameter(parameter).expect("parameters are in zstd's bounds");
    }
    context
}

fn zstd(context: &mut CCtx<'_>, packet: &[u8], out: &mut Vec<u8>) {
    let mut input = InBuffer::around(packet);
    zstd_run(out, |room| {
        let left = context.compress_stream2(room, &mut input, zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_flush);
        left.expect("compressing cannot fail")
    });
}

fn zstd_end(context: &mut CCtx<'_>, out: &mut Vec<u8>) {
    zstd_run(out, |room| context.end_stream(room).expect("compressing cannot fail"));
}

/// Repeats a step with more room until it has nothing left to write.
fn zstd_run(out: &mut Vec<u8>, mut step: impl FnMut(&mut OutBuffer<'_, Vec<u8>>) -> usize) {
    loop {
        out.reserve(4 << 10);
        let at = out.len();
        let mut room = OutBuffer::around_pos(out, at);
        if step(&mut room) == 0 {
            return;
        }
    }
}

/// Cuts a message into at most `pieces`.
pub fn split(message: &[u8], pieces: usize) -> impl Iterator<Item = &[u8]> {
    message.chunks(message.len().div_ceil(pieces.max(1)).max(1))
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};
    use zstd_safe::DCtx;

    use super::*;

    /// Inflates messages one after another with one context, as a client does.
    enum Inflater {
        Zlib(Decompress),
        Zstd(DCtx<'static>),
    }

    impl Inflater {
        fn message(&mut self, message: &[u8]) -> Vec<u8> {
            let mut out = Vec::with_capacity(4 << 20);
            match self {
                Self::Zlib(context) => {
                    assert!(message.ends_with(&[0, 0, 0xff, 0xff]));
                    context.decompress_vec(message, &mut out, FlushDecompress::Sync).expect("valid");
                }
                Self::Zstd(context) => {
                    let mut input = InBuffer::around(message);
                    while input.pos() < message.len() {
                        let at = out.len();
                        let mut room = OutBuffer::around_pos(&mut out, at);
                        context.decompress_stream(&mut room, &mut input).expect("valid");
                    }
                }
            }
            out
        }
    }

    fn pair(transport: Transport) -> (Compressor, Inflater) {
        let inflater = match transport {
            Transport::Zlib => Inflater::Zlib(Decompress::new(true)),
            _ => Inflater::Zstd(DCtx::create()),
        };
        (Compressor::new(transport, Kind::Text), inflater)
    }

    #[test]
    fn packets_of_any_size_come_out_one_a_message() {
        for transport in [Transport::Zlib, Transport::Zstd] {
            let (mut compressor, mut inflater) = pair(transport);
            for size in [1, 50, 5_000, 200_000, 3_000_000, 7] {
                let packet: Vec<u8> = (0..size as u64).map(|n| super::super::template::mix(n) as u8 & 0x3f).collect();
                let (kind, message) = compressor.packet(&packet);
                assert_eq!(kind, Kind::Binary);
                assert_eq!(inflater.message(&message), packet, "{transport:?} {size}");
            }
        }
    }

    #[test]
    fn packets_may_go_before_between_and_after_segments() {
        for transport in [Transport::Zlib, Transport::Zstd] {
            let (mut live, mut inflater) = pair(transport);
            let hello = b"hello hello hello hello";
            assert_eq!(inflater.message(&live.packet(hello).1), hello);
            let segments: Vec<_> = (0..2)
                .map(|_| {
                    let mut segment = live.segment();
                    let messages = [segment.packet(hello).1, segment.packet(hello).1];
                    (messages, segment.end_segment())
                })
                .collect();
            for (messages, end) in segments {
                assert_eq!(inflater.message(&live.packet(hello).1), hello, "{transport:?}");
                let mut first = live.before_segment();
                first.extend(&messages[0]);
                assert_eq!(inflater.message(&first), hello);
                assert_eq!(inflater.message(&messages[1]), hello);
                live.after_segment(end);
            }
            assert_eq!(inflater.message(&live.packet(hello).1), hello);
        }
    }

    #[test]
    fn a_bomb_is_small() {
        for transport in [Transport::Zlib, Transport::Zstd] {
            let (_, message) = Compressor::new(transport, Kind::Text).bomb(8).expect("compressed");
            assert!(message.len() < 32 << 10, "{transport:?}: {}", message.len());
        }
        assert!(Compressor::new(Transport::None, Kind::Text).bomb(8).is_none());
    }

    #[test]
    fn payload_compression_leaves_small_packets_alone() {
        let mut compressor = Compressor::new(Transport::None, Kind::Text);
        compressor.compress_payloads();
        assert_eq!(compressor.packet(b"{}"), (Kind::Text, b"{}".to_vec()));
        assert_eq!(compressor.packet(&[b' '; 2_000]).0, Kind::Binary);
        let mut compressor = Compressor::new(Transport::None, Kind::Binary);
        compressor.compress_payloads();
        assert_eq!(compressor.packet(&[b' '; 2_000]), (Kind::Binary, vec![b' '; 2_000]));
    }

    #[test]
    fn a_message_is_cut_into_pieces_that_make_it_up() {
        let pieces: Vec<&[u8]> = split(b"abcdefg", 3).collect();
        assert_eq!(pieces, [&b"abc"[..], b"def", b"g"]);
    }
}
