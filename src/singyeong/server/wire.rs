//! What is being written to one client: frames in a row, and whose fate hangs on which byte.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::frames;
use crate::clock;
use crate::encoding::Encoding;
use crate::singyeong::outbox::Parcel;
use crate::singyeong::packet::incoming::FrameKind;
use crate::singyeong::packet::outgoing::Outgoing;

/// Nothing more is put in while so many bytes wait: the rest waits where it can still be given to others.
const ENOUGH: usize = 64 << 10;

/// A buffer larger than this is given back once it is empty.
const KEPT: usize = 4 << 10;

/// A client that takes not one byte for so long does not read.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Wire {
    encoding: Encoding,
    bytes: Vec<u8>,
    /// So many of `bytes` are written.
    written: usize,
    /// So many bytes were written before `bytes`.
    before: u64,
    /// What is in `bytes`, and where each ends, counted from the connection's beginning.
    parcels: VecDeque<(u64, Parcel)>,
    /// Since when something waits, and nothing of it was taken.
    waiting_since: Option<Instant>,
}

impl Wire {
    /// Nothing to write.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, bytes: Vec::new(), written: 0, before: 0, parcels: VecDeque::new(), waiting_since: None }
    }

    /// Whether more may be put in. A last word always may.
    pub fn has_room(&self) -> bool {
        self.bytes.len() - self.written < ENOUGH
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// When the client that takes nothing is given up.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + PATIENCE)
    }

    /// Puts a packet in.
    pub fn packet(&mut self, packet: &Outgoing) {
        let mut payload = Vec::new();
        packet.write(self.encoding, clock::unix_millis(), &mut payload);
        frames::write_message(&mut self.bytes, FrameKind::of(self.encoding), &payload);
    }

    /// Puts a packet in whose fate is told when it is written.
    pub fn parcel(&mut self, parcel: Parcel) {
        self.packet(&parcel.packet);
        self.parcels.push_back((self.before + self.bytes.len() as u64, parcel));
    }

    /// Puts a frame in that is no message.
    pub fn control(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
    }

    /// Writes as much as the socket takes now.
    pub fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.written < self.bytes.len() {
            match stream.try_write(&self.bytes[self.written..]) {
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting_since.get_or_insert_with(Instant::now);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        self.waiting_since = None;
        let done = self.before + self.written as u64;
        while self.parcels.front().is_some_and(|(end, _)| *end <= done) {
            let (_, parcel) = self.parcels.pop_front().expect("looked at");
            parcel.written();
        }
        if self.written == self.bytes.len() {
            self.before = done;
            self.written = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
            }
            if self.parcels.capacity() > 16 {
                self.parcels = VecDeque::new();
            }
        }
    }
}
