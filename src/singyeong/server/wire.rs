//! What is being written to one client: frames in a row, and whose fate hangs on which byte.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::clock;
use crate::encoding::Encoding;
use crate::singyeong::outbox::{PATIENCE, Parcel};
use crate::singyeong::packet::outgoing::Outgoing;
use crate::websocket::frames::{self, FrameKind};

/// Nothing more is put in while so many bytes wait: the rest waits where it can still be given to others.
const ENOUGH: usize = 16 << 10;

/// And not while so many parcels do, however small.
const MOST_PARCELS: usize = 32;

/// A buffer larger than this is given back once it is empty.
const KEPT: usize = 4 << 10;

/// Packets that came within so short a time are as old as the first of them: there are few ages to remember.
const ABOUT: Duration = Duration::from_millis(500);

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
    /// Since when what is in `bytes` waits, and where that ends: later and later.
    ages: VecDeque<(u64, Instant)>,
}

impl Wire {
    /// Nothing to write.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, bytes: Vec::new(), written: 0, before: 0, parcels: VecDeque::new(), ages: VecDeque::new() }
    }

    /// Whether more may be put in. A last word always may.
    pub fn has_room(&self) -> bool {
        self.bytes.len() - self.written < ENOUGH && self.parcels.len() < MOST_PARCELS
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// When the client is given up that does not take what is in: a byte now and then is not enough.
    pub fn deadline(&self) -> Option<Instant> {
        self.ages.front().map(|(_, since)| *since + PATIENCE)
    }

    /// Puts a packet in.
    pub fn packet(&mut self, packet: &Outgoing) {
        self.write(packet);
        self.note(Instant::now());
    }

    fn write(&mut self, packet: &Outgoing) {
        let mut payload = Vec::new();
        packet.write(self.encoding, clock::unix_millis(), &mut payload);
        frames::write_message(&mut self.bytes, FrameKind::of(self.encoding), &payload);
    }

    /// Puts a packet in whose fate is told when it is written.
    pub fn parcel(&mut self, parcel: Parcel) {
        self.write(&parcel.packet);
        self.note(parcel.since());
        self.parcels.push_back((self.end(), parcel));
    }

    /// Puts a frame in that is no message.
    pub fn control(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.note(Instant::now());
    }

    /// What was just put in waits since then.
    fn note(&mut self, since: Instant) {
        let end = self.end();
        // Whatever is younger and before it is done before it, too.
        while self.ages.back().is_some_and(|(_, other)| *other > since) {
            self.ages.pop_back();
        }
        match self.ages.back_mut() {
            Some((until, other)) if since - *other < ABOUT => *until = end,
            _ => self.ages.push_back((end, since)),
        }
    }

    /// Where `bytes` ends, counted from the connection's beginning.
    fn end(&self) -> u64 {
        self.before + self.bytes.len() as u64
    }

    /// Writes as much as the socket takes now.
    pub fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.written < self.bytes.len() {
            match stream.try_write(&self.bytes[self.written..]) {
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        let done = self.before + self.written as u64;
        while self.parcels.front().is_some_and(|(end, _)| *end <= done) {
            let (_, parcel) = self.parcels.pop_front().expect("looked at");
            parcel.written();
        }
        while self.ages.front().is_some_and(|(end, _)| *end <= done) {
            self.ages.pop_front();
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
        } else if self.written >= ENOUGH.max(self.bytes.len() - self.written) {
            // It may never be quite empty. No more is moved than was written since the last time.
            self.before = done;
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::encoding::Value;
    use crate::singyeong::outbox::Outbox;

    #[test]
    fn what_is_written_is_given_back_though_something_always_waits() {
        let (mut wire, outbox) = (Wire::new(Encoding::Json), Outbox::default());
        let (told, mut written) = (Arc::new(Mutex::new(Vec::new())), 0);
        for number in 0..2000 {
            let payload = Value::string(&"x".repeat(1000));
            let packet = Outgoing::message(false, Value::Null, payload, None);
            let fates = Arc::clone(&told);
            let fate = Box::new(move |written| fates.lock().expect("not poisoned").push((number, written)));
            outbox.push(packet, Some(fate)).expect("there is room");
            wire.parcel(outbox.take().expect("just put in"));
            // All but a byte.
            let count = wire.bytes.len() - wire.written - 1;
            wire.advance(count);
            written += count;
            assert!(!wire.is_empty() && wire.bytes.len() < 4 * ENOUGH, "{} bytes", wire.bytes.len());
            assert_eq!(wire.before + wire.written as u64, written as u64);
        }
        let expected: Vec<_> = (0..1999).map(|number| (number, true)).collect();
        assert_eq!(*told.lock().expect("not poisoned"), expected);
        wire.advance(1);
        assert!(wire.is_empty() && wire.deadline().is_none() && wire.bytes.capacity() <= KEPT);
    }

    #[test]
    fn the_deadline_is_that_of_the_oldest_whatever_is_taken_before_it() {
        let (mut wire, start) = (Wire::new(Encoding::Json), Instant::now());
        let put = |wire: &mut Wire, seconds| {
            wire.bytes.extend([0; 10]);
            wire.note(start + Duration::from_secs(seconds));
        };
        put(&mut wire, 5);
        put(&mut wire, 3);
        put(&mut wire, 7);
        let deadline = |seconds| Some(start + Duration::from_secs(seconds) + PATIENCE);
        assert_eq!(wire.deadline(), deadline(3));
        wire.advance(19);
        assert_eq!(wire.deadline(), deadline(3), "its last byte is not taken");
        wire.advance(1);
        assert_eq!(wire.deadline(), deadline(7));
        wire.advance(10);
        assert_eq!(wire.deadline(), None);
    }

    #[test]
    fn there_is_room_for_few_parcels_however_small() {
        let (mut wire, outbox) = (Wire::new(Encoding::Json), Outbox::default());
        let mut count = 0;
        while wire.has_room() {
            outbox.push(Outgoing::Goodbye, None).expect("there is room");
            wire.parcel(outbox.take().expect("just put in"));
            count += 1;
        }
        assert_eq!(count, MOST_PARCELS);
    }
}
