//! Frames out of a stream of bytes, however it was cut.

use super::{FRAME_MAX_SIZE, FRAME_OVERHEAD, ProtocolError};

/// The byte behind every frame's payload.
pub const FRAME_END: u8 = 0xCE;

/// What the buffer holds at rest; confirms are 21 bytes each.
const RESTING_SIZE: usize = 8 * 1024;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A method.
    Method,
    /// The head of a message.
    Header,
    /// A piece of a message.
    Body,
    /// A sign of life.
    Heartbeat,
}

impl FrameKind {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Method),
            2 => Some(Self::Header),
            3 => Some(Self::Body),
            8 => Some(Self::Heartbeat),
            _ => None,
        }
    }

    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Method => 1,
            Self::Header => 2,
            Self::Body => 3,
            Self::Heartbeat => 8,
        }
    }
}

/// One whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: FrameKind,
    /// On which channel.
    pub channel: u16,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame of `bytes` and its length, or `None` when it is not whole yet. A frame longer than `max` is an
    /// error as soon as its head is there.
    ///
    /// # Errors
    /// When `bytes` do not begin with a frame.
    pub fn first(bytes: &'a [u8], max: usize) -> Result<Option<(Self, usize)>, ProtocolError> {
        let Some(&kind) = bytes.first() else { return Ok(None) };
        let kind = FrameKind::from_byte(kind).ok_or(ProtocolError::UnknownFrameType(kind))?;
        let Some(&[_, c0, c1, s0, s1, s2, s3]) = bytes.first_chunk::<7>() else { return Ok(None) };
        let size = u64::from(u32::from_be_bytes([s0, s1, s2, s3])) + FRAME_OVERHEAD as u64;
        if size > max as u64 {
            return Err(ProtocolError::FrameTooLarge { size, max });
        }
        let size = size as usize;
        let Some(frame) = bytes.get(..size) else { return Ok(None) };
        if frame[size - 1] != FRAME_END {
            return Err(ProtocolError::BadFrameEnd(frame[size - 1]));
        }
        let channel = u16::from_be_bytes([c0, c1]);
        Ok(Some((Self { kind, channel, payload: &frame[7..size - 1] }, size)))
    }
}

/// Collects what is read and gives it out frame by frame. Holds at most one frame of the agreed size, or its resting size.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    /// The first byte that was not given out.
    start: usize,
    /// The end of what was read.
    end: usize,
    max: usize,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self { buffer: vec![0; RESTING_SIZE], start: 0, end: 0, max: FRAME_MAX_SIZE }
    }
}

impl FrameDecoder {
    /// Frames longer than `max` are errors from now on.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Room to read into, never empty; tell [`filled`](Self::filled) how much was read.
    ///
    /// Ask for it once [`next_frame`](Self::next_frame) has nothing more: what is kept is then less than a frame.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > RESTING_SIZE {
                self.buffer = vec![0; RESTING_SIZE];
            }
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.end == self.buffer.len() {
                // A frame that is longer than the buffer. The head was checked against `max`, so this ends.
                self.buffer.resize(self.end * 2, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// `n` bytes were read into [`space`](Self::space).
    ///
    /// # Panics
    /// When that is more than there was room for.
    pub fn filled(&mut self, n: usize) {
        assert!(n <= self.buffer.len() - self.end, "filled beyond the space");
        self.end += n;
    }

    /// Whether a part of a frame is waiting for the rest.
    pub fn is_mid_frame(&self) -> bool {
        self.start < self.end
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// When what was read is not a frame; the stream cannot be read on then.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ProtocolError> {
        let Some((frame, size)) = Frame::first(&self.buffer[self.start..self.end], self.max)? else {
            return Ok(None);
        };
        self.start += size;
        Ok(Some(frame))
    }
}
