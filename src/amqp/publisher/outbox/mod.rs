//! Messages from their publishing to their settling: framed once, kept until the broker confirms them, written again where
//! it did not.
//!
//! Sans-I/O, and the hottest code of the program. It knows no socket and no clock. The driver asks for bytes
//! ([`Outbox::writable`]), says how many it wrote ([`Outbox::wrote`]), and hands in confirms and lost connections.
//!
//! Each message has an entry, in the order of publishing, and lies framed in a segment. Its way:
//!
//! ```text
//! push -> Queued --first byte written--> InFlight --ack--> Settled
//!            ^                            |  |
//!            |                            |  +-nack-> Waiting --due--> InFlight, or after a minute
//!            +------connection lost-------+-------------+              GivenUp -> Told --notice settled--> Settled
//! ```
//!
//! A message that came back because no queue took it is acked, too. Where that is no end for it ([`Outbox::returned`]), the ack
//! counts as a nack.
//!
//! What is settled leaves at the front only, so [`Outbox::settled`] never passes a message that is not.

mod retries;
mod segments;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Instant;

use self::retries::{Retries, Verdict};
use self::segments::{Place, Segments};
use super::codec::publish::{self, Message, Unpublishable};
use super::codec::{FRAME_MAX_SIZE, ProtocolError};
use crate::broker::Position;

/// Settled messages behind one that is not settled cost an entry each. There may be this many times the window of them.
const ENTRIES_PER_WINDOW: usize = 16;

/// How much may be in flight. Asked before a message is taken, so one message may go beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Unsettled messages.
    pub messages: usize,
    /// Bytes held for them, framing included.
    pub bytes: usize,
}

/// What the broker says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It has it.
    Ack,
    /// It does not want it, or could not keep it.
    Nack,
}

/// A confirm, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// What it says.
    pub verb: Verb,
    /// Of which message on this connection, from 1.
    pub tag: u64,
    /// Of all messages up to that one, too.
    pub multiple: bool,
}

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbandonReason {
    /// The broker refused it (nack) for a minute.
    Refused,
    /// It is larger than the broker takes messages.
    TooLarge,
    /// No queue took it, for a minute or with no hope of one.
    Unroutable,
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// Its place.
    pub position: Position,
    /// The shard it came from.
    pub shard: u32,
    /// Its sequence number there.
    pub seq: u64,
    /// Its routing key.
    pub routing_key: String,
    /// Its message id, if it has one.
    pub message_id: Option<String>,
    /// Why.
    pub reason: AbandonReason,
}

/// What happened so far, in numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounters {
    /// Messages taken.
    pub published: u64,
    /// Messages confirmed.
    pub confirmed: u64,
    /// Nacks, one a message and try.
    pub nacked: u64,
    /// Messages given up.
    pub abandoned: u64,
    /// Messages forgotten, because another process has their shard.
    pub discarded: u64,
    /// Messages begun to be written again.
    pub republished: u64,
    /// Bytes written.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be written, when the cursor comes to it.
    Queued,
    /// Begun to be written on this connection, its confirm outstanding.
    InFlight,
    /// The same, and no queue took it: its ack is none.
    Returned {
        /// It is written again.
        again: bool,
    },
    /// Nacked; written again when its time comes.
    Waiting,
    /// Given up, to be told.
    GivenUp(AbandonReason),
    /// Given up; settled with the notice of it, which is at this position.
    Told(u64),
    /// Done with.
    Settled,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    place: Place,
    shard: u32,
    state: State,
    seq: u64,
}

/// The message that was begun and not finished.
#[derive(Clone, Copy, Debug)]
struct Partial {
    index: Position,
    written: usize,
}

/// What [`Outbox::writable`] gave out last: `wrote` walks over it.
#[derive(Clone, Copy, Debug)]
enum Run {
    /// From the cursor, in order.
    InOrder,
    /// One nacked message.
    Retry(Position),
}

/// Messages in order, framed, until they are settled.
#[derive(Debug)]
pub struct Outbox {
    window: Window,
    frame_max: usize,
    segments: Segments,
    /// From `front` on, without a hole.
    entries: VecDeque<Entry>,
    front: u64,
    /// Entries that are not settled.
    unsettled: usize,
    /// The next to be written in order. Before it, nothing is `Queued`.
    cursor: u64,
    /// From here on all is `Queued` and was never begun.
    untouched: u64,
    /// Behind the last message that was ever begun.
    begun: u64,
    run: Run,
    partial: Option<Partial>,
    /// Positions by delivery tag, from `first_tag` on; `None` once confirmed.
    tags: VecDeque<Option<u64>>,
    first_tag: u64,
    retries: Retries,
    given_up: VecDeque<u64>,
    counters: OutboxCounters,
}

impl Outbox {
    /// An empty one.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            frame_max: FRAME_MAX_SIZE,
            segments: Segments::default(),
            entries: VecDeque::new(),
            front: 0,
            unsettled: 0,
            cursor: 0,
            untouched: 0,
            begun: 0,
            run: Run::InOrder,
            partial: None,
            tags: VecDeque::new(),
            first_tag: 1,
            retries: Retries::default(),
            given_up: VecDeque::new(),
            counters: OutboxCounters::default(),
        }
    }

    /// Takes a message; its body is copied here and nowhere else.
    ///
    /// # Errors
    /// When it cannot be framed; nothing is kept of it then.
    pub fn push(&mut self, message: &Message<'_>) -> Result<Position, Unpublishable> {
        let frame_max = self.frame_max;
        let bound = publish::encoded_bound(message, frame_max);
        let place = self.segments.append(bound, |out| publish::encode(message, frame_max, out))?;
        let position = self.end();
        self.entries.push_back(Entry { place, shard: message.shard, seq: message.seq, state: State::Queued });
        self.unsettled += 1;
        self.counters.published += 1;
        Ok(position)
    }

    /// Whether another message may be taken.
    pub fn has_room(&self) -> bool {
        self.unsettled < self.window.messages
            && self.segments.held() < self.window.bytes
            && self.entries.len() < self.window.messages.saturating_mul(ENTRIES_PER_WINDOW)
    }

    /// Whether a good part of the window is free: it pays to wake those that wait for room.
    pub fn has_ample_room(&self) -> bool {
        self.has_room()
            && self.unsettled <= self.window.messages - self.window.messages / 4
            && self.segments.held() <= self.window.bytes - self.window.bytes / 4
    }

    /// Whether at least half of the window is taken.
    pub fn is_half_full(&self) -> bool {
        self.unsettled >= self.window.messages / 2 || self.segments.held() >= self.window.bytes / 2
    }

    /// Everything before this is settled.
    pub fn settled(&self) -> Position {
        Position::new(self.front)
    }

    /// The place that the next message gets.
    pub fn end(&self) -> Position {
        Position::new(self.front + self.entries.len() as u64)
    }

    /// Messages not settled.
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// The bytes of messages that are kept, those of settled ones between them included.
    pub fn held(&self) -> usize {
        self.segments.held()
    }

    /// The last delivery tag given, 0 before the first.
    pub fn last_tag(&self) -> u64 {
        self.first_tag + self.tags.len() as u64 - 1
    }

    /// The oldest delivery tag without a confirm, if there is any.
    pub fn oldest_tag(&self) -> Option<u64> {
        (!self.tags.is_empty()).then_some(self.first_tag)
    }

    /// Messages on the wire without a confirm, or nearly: one confirmed out of turn counts until its turn.
    pub fn in_flight(&self) -> usize {
        self.tags.len()
    }

    /// The numbers.
    pub fn counters(&self) -> OutboxCounters {
        self.counters
    }

    /// Bytes allocated for messages.
    pub fn allocated(&self) -> usize {
        self.segments.allocated()
    }

    /// Gives memory back that a burst had needed.
    pub fn shrink(&mut self) {
        self.segments.shrink();
        self.entries.shrink_to(64);
        self.tags.shrink_to(64);
    }

    /// A connection is there that takes frames up to `frame_max`. What was cut larger is cut anew.
    pub fn connected(&mut self, frame_max: usize) {
        debug_assert!(self.tags.is_empty() && self.partial.is_none(), "the last connection's loss was not told");
        if frame_max < self.frame_max {
            let Self { segments, entries, .. } = self;
            let mut old = std::mem::take(segments);
            for entry in entries.iter_mut().filter(|entry| entry.state != State::Settled) {
                let framed = old.get(entry.place);
                let bound = framed.len() + framed.len() / (frame_max - 8) * 8 + 8;
                let place = segments.append::<std::convert::Infallible>(bound, |out| {
                    publish::recut(framed, frame_max, out);
                    Ok(())
                });
                let Ok(place) = place;
                // Freed as we go, so that there are never two copies of everything.
                old.release(std::mem::replace(&mut entry.place, place));
            }
        }
        self.frame_max = frame_max;
    }

    /// The connection is gone: what is not settled is written again on the next one, from the front, in order.
    pub fn connection_lost(&mut self) {
        for entry in &mut self.entries {
            if matches!(entry.state, State::InFlight | State::Returned { .. } | State::Waiting) {
                entry.state = State::Queued;
            }
        }
        self.retries.stop_waiting();
        self.cursor = self.front;
        self.run = Run::InOrder;
        self.partial = None;
        self.tags.clear();
        self.first_tag = 1;
    }

    /// Whether a frame of another origin may be written now: no message is half written.
    pub fn at_boundary(&self) -> bool {
        self.partial.is_none()
    }

    /// The next bytes to write: as many as lie in one piece; empty when there are none. `finish_only`: no more than the
    /// message that was begun.
    pub fn writable(&mut self, finish_only: bool, now: Instant) -> &[u8] {
        if let Some(Partial { index, written }) = self.partial {
            let place = self.entry(index.get()).place;
            let in_order = matches!(self.run, Run::InOrder) && !finish_only && !self.retries.is_due(now);
            let end = if in_order { self.run_end(index.get()) } else { place.end() };
            return self.segments.slice(place.segment, place.start() + written, end);
        }
        if finish_only {
            return &[];
        }
        if let Some(position) = self.retries.due(now) {
            self.run = Run::Retry(position);
            return self.segments.get(self.entry(position.get()).place);
        }
        self.run = Run::InOrder;
        while self.cursor < self.end().get() && self.entry(self.cursor).state != State::Queued {
            self.cursor += 1;
        }
        if self.cursor == self.end().get() {
            return &[];
        }
        let place = self.entry(self.cursor).place;
        let end = self.run_end(self.cursor);
        self.segments.slice(place.segment, place.start(), end)
    }

    /// Where the bytes end that lie behind `first` in one piece and are all to be written.
    fn run_end(&self, first: u64) -> usize {
        let mut last = self.entry(first).place;
        for position in first + 1..self.untouched.max(first + 1) {
            let entry = self.entry(position);
            if entry.state != State::Queued || !last.touches(entry.place) {
                return last.end();
            }
            last = entry.place;
        }
        // None of the rest was ever written, so none is settled: it is all wanted, to the end of the segment.
        match self.entries.get((self.untouched.max(first + 1) - self.front) as usize) {
            Some(entry) if last.touches(entry.place) => self.segments.filled(last.segment),
            _ => last.end(),
        }
    }

    /// `n` bytes of [`writable`](Self::writable) were written.
    ///
    /// # Panics
    /// When there were not that many.
    pub fn wrote(&mut self, n: usize) {
        self.counters.bytes += n as u64;
        let mut left = n;
        if let Some(Partial { index, written }) = self.partial {
            left = self.advance(index, written, left);
        } else if let Run::Retry(position) = self.run
            && left > 0
        {
            self.retries.take(position);
            self.begin(position.get());
            left = self.advance(position, 0, left);
        }
        while left > 0 {
            assert!(matches!(self.run, Run::InOrder), "more was written than was there");
            let position = Position::new(self.cursor);
            self.begin(self.cursor);
            self.cursor += 1;
            left = self.advance(position, 0, left);
        }
    }

    /// The first byte of a message went out: it has a delivery tag.
    fn begin(&mut self, position: u64) {
        let entry = self.entry_mut(position);
        debug_assert!(matches!(entry.state, State::Queued | State::Waiting));
        entry.state = State::InFlight;
        self.tags.push_back(Some(position));
        if position < self.begun {
            self.counters.republished += 1;
        }
        self.begun = self.begun.max(position + 1);
        self.untouched = self.untouched.max(position + 1);
    }

    /// Counts `left` more bytes to a message of which some were written; gives what is over.
    fn advance(&mut self, index: Position, written: usize, left: usize) -> usize {
        let missing = self.entry(index.get()).place.len() - written;
        if left < missing {
            self.partial = Some(Partial { index, written: written + left });
            return 0;
        }
        self.partial = None;
        left - missing
    }

    /// What the broker says of one or more messages.
    ///
    /// # Errors
    /// When it speaks of a message that was not written on this connection.
    pub fn confirm(&mut self, confirm: Confirm, now: Instant) -> Result<(), ProtocolError> {
        let last = self.last_tag() - u64::from(self.partial.is_some());
        // Tag 0 means "all of them", but only together with `multiple`.
        let tag = if confirm.tag == 0 && confirm.multiple { last } else { confirm.tag };
        if tag > last || confirm.tag == 0 && !confirm.multiple {
            return Err(ProtocolError::UnknownTag { tag: confirm.tag, last });
        }
        if confirm.multiple {
            while self.first_tag <= tag {
                let position = self.tags.pop_front().flatten();
                self.first_tag += 1;
                if let Some(position) = position {
                    self.confirm_one(position, confirm.verb, now);
                }
            }
        } else if let Some(index) = tag.checked_sub(self.first_tag)
            && let Some(position) = self.tags[index as usize].take()
        {
            self.confirm_one(position, confirm.verb, now);
        }
        self.skip_confirmed();
        self.advance_front();
        Ok(())
    }

    fn skip_confirmed(&mut self) {
        while let Some(None) = self.tags.front() {
            self.tags.pop_front();
            self.first_tag += 1;
        }
    }

    fn confirm_one(&mut self, position: u64, verb: Verb, now: Instant) {
        match (verb, self.entry(position).state) {
            (Verb::Ack, State::Returned { again: true }) => self.refused(position, AbandonReason::Unroutable, now),
            (Verb::Ack, State::Returned { again: false }) => self.give_up(position, AbandonReason::Unroutable),
            (Verb::Ack, _) => {
                self.counters.confirmed += 1;
                self.retries.forget(Position::new(position));
                self.settle(position);
            }
            (Verb::Nack, _) => {
                self.counters.nacked += 1;
                self.refused(position, AbandonReason::Refused, now);
            }
        }
    }

    /// The broker does not have it: it is written again after a while, or has had its chances.
    fn refused(&mut self, position: u64, reason: AbandonReason, now: Instant) {
        match self.retries.nacked(Position::new(position), now) {
            Verdict::Again => {
                // Moved out, so that a message that stays long does not hold its whole segment.
                let place = self.segments.set_aside(self.entry(position).place);
                let entry = self.entry_mut(position);
                entry.place = place;
                entry.state = State::Waiting;
            }
            Verdict::GiveUp => self.give_up(position, reason),
        }
    }

    /// No queue took the message of this id, and that is no end for it: with the ack that follows it is to be written again, or
    /// given up.
    pub fn returned(&mut self, message_id: &str, again: bool) {
        let Self { tags, entries, segments, front, .. } = self;
        // Returns come in the order of writing: what is before it and not confirmed was routed, or came back before.
        for position in tags.iter().flatten() {
            let entry = &mut entries[(*position - *front) as usize];
            if entry.state == State::InFlight && publish::message_id(segments.get(entry.place)) == Some(message_id) {
                entry.state = State::Returned { again };
                return;
            }
        }
    }

    fn give_up(&mut self, position: u64, reason: AbandonReason) {
        self.retries.forget(Position::new(position));
        self.entry_mut(position).state = State::GivenUp(reason);
        self.given_up.push_back(position);
        self.counters.abandoned += 1;
    }

    /// The broker takes no message whose body is longer than `limit`: those that are, are given up. Only between connections.
    pub fn give_up_larger_than(&mut self, limit: u64) {
        for position in self.front..self.end().get() {
            let entry = self.entry(position);
            if entry.state == State::Queued && publish::body_size(self.segments.get(entry.place)) > limit {
                self.give_up(position, AbandonReason::TooLarge);
                self.untouched = self.untouched.max(position + 1);
            }
        }
    }

    /// Forgets the shard's messages: they count as settled, and none is written again. Another process has the shard, and
    /// Discord sends it what was not confirmed.
    pub fn discard(&mut self, shard: u32) {
        let half_written = self.partial.map(|partial| partial.index.get());
        for tag in &mut self.tags {
            // Its confirm, should it come, says nothing any more.
            tag.take_if(|position| {
                self.entries[(*position - self.front) as usize].shard == shard && Some(*position) != half_written
            });
        }
        for position in self.front..self.end().get() {
            let Entry { shard: of, state, .. } = *self.entry(position);
            let forgettable =
                matches!(state, State::Queued | State::InFlight | State::Returned { .. } | State::Waiting);
            if of == shard && forgettable && Some(position) != half_written {
                self.retries.forget(Position::new(position));
                self.settle(position);
                self.untouched = self.untouched.max(position + 1);
                self.counters.discarded += 1;
            }
        }
        self.skip_confirmed();
        self.advance_front();
    }

    /// A message that was given up, to be [`told`](Self::told): who resumes from what is settled must not pass a loss that
    /// nobody was told of.
    pub fn next_abandoned(&mut self) -> Option<Abandoned> {
        let position = self.given_up.pop_front()?;
        let entry = *self.entry(position);
        let State::GivenUp(reason) = entry.state else { unreachable!("only what was given up is in that queue") };
        Some(Abandoned {
            position: Position::new(position),
            shard: entry.shard,
            seq: entry.seq,
            routing_key: publish::routing_key(self.segments.get(entry.place)).to_owned(),
            message_id: publish::message_id(self.segments.get(entry.place)).map(str::to_owned),
            reason,
        })
    }

    /// The loss of the message at `position` was told to whom it concerns: by the message at `notice`, if by one. It is
    /// settled with that.
    pub fn told(&mut self, position: Position, notice: Option<Position>) {
        if position.get() < self.front || !matches!(self.entry(position.get()).state, State::GivenUp(_)) {
            return;
        }
        match notice {
            Some(notice) => self.entry_mut(position.get()).state = State::Told(notice.get()),
            None => self.settle(position.get()),
        }
        self.advance_front();
    }

    /// When the next nacked message is to be written again.
    pub fn next_retry(&self) -> Option<Instant> {
        self.retries.next_due()
    }

    fn settle(&mut self, position: u64) {
        let entry = self.entry_mut(position);
        debug_assert!(entry.state != State::Settled);
        entry.state = State::Settled;
        let place = entry.place;
        self.unsettled -= 1;
        self.segments.release(place);
    }

    fn advance_front(&mut self) {
        while let Some(entry) = self.entries.front() {
            match entry.state {
                State::Settled => {}
                State::Told(notice) if self.is_settled(notice) => self.settle(self.front),
                _ => break,
            }
            self.entries.pop_front();
            self.front += 1;
        }
        self.cursor = self.cursor.max(self.front);
        self.untouched = self.untouched.max(self.front);
    }

    fn is_settled(&self, position: u64) -> bool {
        position < self.front || self.entry(position).state == State::Settled
    }

    fn entry(&self, position: u64) -> &Entry {
        &self.entries[(position - self.front) as usize]
    }

    fn entry_mut(&mut self, position: u64) -> &mut Entry {
        &mut self.entries[(position - self.front) as usize]
    }
}
