//! What the outbox promises, by examples and against a model of a broker.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::segments::SEGMENT;
use super::*;
use crate::amqp::publisher::codec::FRAME_MIN_SIZE;
use crate::amqp::publisher::codec::frame::{Frame, FrameDecoder, FrameKind};
use crate::amqp::publisher::codec::method::content_body_size;
use crate::amqp::publisher::codec::publish::Properties;

const WINDOW: Window = Window { messages: 64, bytes: 1 << 20 };

/// The broker's end of one connection after another, and what it was told.
struct Scenario {
    outbox: Outbox,
    now: Instant,
    decoder: FrameDecoder,
    /// The message being received: its number, if known yet, and the bytes missing.
    receiving: Option<(Option<u64>, u64)>,
    /// Message numbers by delivery tag of this connection, from 1.
    received: Vec<u64>,
    outstanding: BTreeSet<u64>,
    /// Messages acked on whatever connection.
    acked: BTreeSet<u64>,
    abandoned: BTreeSet<u64>,
    discarded: BTreeSet<u64>,
}

/// Messages go round three shards.
fn shard_of(number: u64) -> u32 {
    (number % 3) as u32
}

impl Scenario {
    fn new() -> Self {
        let mut outbox = Outbox::new(WINDOW);
        outbox.connected(FRAME_MAX_SIZE);
        Self {
            outbox,
            now: Instant::now(),
            decoder: FrameDecoder::default(),
            receiving: None,
            received: Vec::new(),
            outstanding: BTreeSet::new(),
            acked: BTreeSet::new(),
            abandoned: BTreeSet::new(),
            discarded: BTreeSet::new(),
        }
    }

    /// Publishes a message of `size` bytes; its body begins with its number.
    fn push(&mut self, size: usize) -> Position {
        let number = self.outbox.end().get();
        let mut body = number.to_be_bytes().to_vec();
        body.resize(size.max(8), number as u8);
        let routing_key = &format!("KEY_{number}");
        let message = Message {
            exchange: "g",
            routing_key,
            mandatory: false,
            properties: Properties { message_id: Some(&number.to_string()), ..Properties::default() },
            prefix: None,
            body: &body,
            shard: shard_of(number),
            seq: number + 100,
        };
        self.outbox.push(&message).expect("fits")
    }

    /// Lets at most `limit` bytes through.
    fn write(&mut self, limit: usize) -> usize {
        let mut left = limit;
        while left > 0 {
            let bytes = self.outbox.writable(false, self.now);
            if bytes.is_empty() {
                break;
            }
            let n = bytes.len().min(left);
            let mut rest = &bytes[..n];
            while !rest.is_empty() {
                let space = self.decoder.space();
                let some = rest.len().min(space.len());
                space[..some].copy_from_slice(&rest[..some]);
                self.decoder.filled(some);
                rest = &rest[some..];
                receive(
                    &mut self.decoder,
                    &mut self.receiving,
                    &mut self.received,
                    &mut self.outstanding,
                    &self.acked,
                    &self.abandoned,
                );
            }
            self.outbox.wrote(n);
            left -= n;
        }
        limit - left
    }

    fn confirm(&mut self, verb: Verb, tag: u64, multiple: bool) {
        let tags: Vec<u64> = if multiple { self.outstanding.range(..=tag).copied().collect() } else { vec![tag] };
        for tag in tags {
            self.outstanding.remove(&tag);
            if verb == Verb::Ack {
                let number = self.received[tag as usize - 1];
                if !self.discarded.contains(&number) {
                    self.acked.insert(number);
                }
            }
        }
        self.outbox.confirm(Confirm { verb, tag, multiple }, self.now).expect("a tag of this connection");
        while let Some(abandoned) = self.outbox.next_abandoned() {
            let number = abandoned.position.get();
            assert_eq!((abandoned.shard, abandoned.seq), (shard_of(number), number + 100));
            assert_eq!(abandoned.routing_key, format!("KEY_{number}"));
            assert!(self.outbox.settled() <= abandoned.position, "settled only once told");
            self.abandoned.insert(number);
            self.outbox.told(abandoned.position, None);
        }
    }

    fn reconnect(&mut self, frame_max: usize) {
        self.outbox.connection_lost();
        self.outbox.connected(frame_max);
        self.decoder = FrameDecoder::default();
        self.decoder.set_max(frame_max);
        self.receiving = None;
        self.received.clear();
        self.outstanding.clear();
    }

    /// Another process has the shard. What is half written is finished.
    fn discard(&mut self, shard: u32) {
        let half = self.outbox.partial.map(|partial| partial.index.get());
        let open = |n: &u64| !self.acked.contains(n) && !self.abandoned.contains(n) && Some(*n) != half;
        let gone: Vec<u64> = (0..self.outbox.end().get()).filter(|n| shard_of(*n) == shard && open(n)).collect();
        self.discarded.extend(gone);
        self.outbox.discard(shard);
    }

    fn check(&self) {
        let is_open = |n: &u64| [&self.acked, &self.abandoned, &self.discarded].iter().all(|done| !done.contains(n));
        let first_open = (0..self.outbox.end().get()).find(is_open);
        assert_eq!(self.outbox.settled().get(), first_open.unwrap_or(self.outbox.end().get()));
        let settled = self.acked.len() + self.abandoned.len() + self.discarded.len();
        assert_eq!(self.outbox.unsettled(), self.outbox.end().get() as usize - settled);
    }
}

/// Reads whole frames as a broker does: method, header, then a body of the length that the header told.
fn receive(
    decoder: &mut FrameDecoder,
    receiving: &mut Option<(Option<u64>, u64)>,
    received: &mut Vec<u64>,
    outstanding: &mut BTreeSet<u64>,
    acked: &BTreeSet<u64>,
    abandoned: &BTreeSet<u64>,
) {
    while let Some(Frame { kind, channel, payload }) =
        decoder.next_frame().expect("whole frames within the agreed size")
    {
        assert_eq!(channel, 1);
        *receiving = match (kind, receiving.take()) {
            (FrameKind::Method, None) => Some((None, 0)),
            (FrameKind::Header, Some((None, 0))) => Some((None, content_body_size(payload).expect("a header"))),
            (FrameKind::Body, Some((number, missing))) => {
                let number = number
                    .unwrap_or_else(|| u64::from_be_bytes(*payload.first_chunk().expect("begins with its number")));
                let skip =
                    if missing >= 8 && payload.len() >= 8 && payload[..8] == number.to_be_bytes() { 8 } else { 0 };
                assert!(payload[skip..].iter().all(|byte| *byte == number as u8), "the body is whole");
                let missing = missing.checked_sub(payload.len() as u64).expect("no longer than told");
                if missing > 0 {
                    Some((Some(number), missing))
                } else {
                    assert!(!acked.contains(&number) && !abandoned.contains(&number), "{number} was settled");
                    received.push(number);
                    outstanding.insert(received.len() as u64);
                    None
                }
            }
            (kind, state) => panic!("{kind:?} in {state:?}"),
        };
    }
}

#[test]
fn what_is_confirmed_out_of_turn_settles_in_turn() {
    let mut s = Scenario::new();
    for _ in 0..3 {
        s.push(10);
    }
    s.write(usize::MAX);
    s.confirm(Verb::Ack, 3, false);
    s.confirm(Verb::Ack, 2, false);
    assert_eq!(s.outbox.settled(), Position::new(0));
    s.confirm(Verb::Ack, 1, false);
    assert_eq!(s.outbox.settled(), Position::new(3));
}

#[test]
fn messages_of_one_tick_are_one_piece() {
    let mut s = Scenario::new();
    for _ in 0..50 {
        s.push(1000);
    }
    let all = s.outbox.writable(false, s.now).len();
    s.outbox.wrote(all);
    assert!(s.outbox.writable(false, s.now).is_empty());
    assert_eq!(s.outbox.in_flight(), 50);
}

#[test]
fn a_lost_connection_writes_the_unconfirmed_again_from_the_front() {
    let mut s = Scenario::new();
    for _ in 0..5 {
        s.push(1000);
    }
    s.write(3500);
    assert_eq!(s.received, [0, 1, 2], "the fourth is half written");
    s.confirm(Verb::Ack, 2, false);
    s.reconnect(FRAME_MAX_SIZE);
    s.write(usize::MAX);
    assert_eq!(s.received, [0, 2, 3, 4]);
    assert_eq!(s.outbox.counters().republished, 3, "0, 2 and the half of 3");
}

#[test]
fn a_nacked_message_is_written_again_later_and_the_others_meanwhile() {
    let mut s = Scenario::new();
    s.push(10);
    s.push(10);
    s.write(usize::MAX);
    s.confirm(Verb::Nack, 1, false);
    s.confirm(Verb::Ack, 2, false);
    s.push(10);
    s.write(usize::MAX);
    assert_eq!(s.received, [0, 1, 2], "the nacked one has to wait");
    assert_eq!(s.outbox.next_retry(), Some(s.now + Duration::from_millis(100)));
    s.now += Duration::from_millis(100);
    s.write(usize::MAX);
    assert_eq!(s.received, [0, 1, 2, 0]);
    s.confirm(Verb::Ack, 4, true);
    assert_eq!(s.outbox.settled(), s.outbox.end());
}

#[test]
fn after_a_minute_of_nacks_a_message_is_given_up_and_told() {
    let mut s = Scenario::new();
    s.push(10);
    s.push(10);
    let start = s.now;
    let mut tries = 0;
    while s.abandoned.is_empty() {
        s.write(usize::MAX);
        for tag in s.outstanding.clone() {
            let verb = if s.received[tag as usize - 1] == 0 { Verb::Nack } else { Verb::Ack };
            tries += u32::from(verb == Verb::Nack);
            s.confirm(verb, tag, false);
        }
        s.now = s.outbox.next_retry().unwrap_or(s.now);
    }
    assert_eq!(s.now - start, Duration::from_secs(60), "the last try is at the end of the minute");
    assert_eq!(tries, 18, "0.1 s doubled up to 5 s");
    assert_eq!(s.outbox.settled(), Position::new(2));
}

#[test]
fn what_no_queue_took_is_written_again_and_given_up_after_a_minute() {
    let mut s = Scenario::new();
    for _ in 0..3 {
        s.push(10);
    }
    s.write(usize::MAX);
    s.outbox.returned("1", true);
    s.outbox.confirm(Confirm { verb: Verb::Ack, tag: 3, multiple: true }, s.now).expect("tags of this connection");
    assert_eq!((s.outbox.settled(), s.outbox.unsettled()), (Position::new(1), 1), "its ack is none");
    s.now = s.outbox.next_retry().expect("it is tried again");
    s.write(usize::MAX);
    assert_eq!(s.received, [0, 1, 2, 1]);
    s.outbox.connection_lost();
    s.outbox.connected(FRAME_MAX_SIZE);
    s.now += Duration::from_secs(61);
    assert!(!s.outbox.writable(false, s.now).is_empty());
    let all = s.outbox.writable(false, s.now).len();
    s.outbox.wrote(all);
    s.outbox.returned("1", true);
    s.outbox.confirm(Confirm { verb: Verb::Ack, tag: 1, multiple: false }, s.now).expect("a tag of this connection");
    let abandoned = s.outbox.next_abandoned().expect("given up");
    assert_eq!((abandoned.position, abandoned.reason), (Position::new(1), AbandonReason::Unroutable));
    s.outbox.told(abandoned.position, None);
    assert_eq!(s.outbox.settled(), s.outbox.end());
}

#[test]
fn what_no_queue_will_take_is_given_up_at_once() {
    let mut s = Scenario::new();
    s.push(10);
    s.push(10);
    s.write(usize::MAX);
    s.outbox.returned("0", false);
    s.outbox.returned("7", false);
    s.outbox.confirm(Confirm { verb: Verb::Ack, tag: 2, multiple: true }, s.now).expect("tags of this connection");
    let abandoned = s.outbox.next_abandoned().expect("given up");
    assert_eq!((abandoned.position, abandoned.reason), (Position::new(0), AbandonReason::Unroutable));
    assert_eq!((s.outbox.next_abandoned(), s.outbox.unsettled()), (None, 1));
}

#[test]
fn a_confirm_of_what_was_not_written_is_an_error() {
    let mut s = Scenario::new();
    s.push(1000);
    let now = s.now;
    let ack = |tag, multiple| Confirm { verb: Verb::Ack, tag, multiple };
    assert_eq!(s.outbox.confirm(ack(1, false), now), Err(ProtocolError::UnknownTag { tag: 1, last: 0 }));
    s.write(500);
    assert!(s.outbox.confirm(ack(1, true), now).is_err(), "half a message cannot be confirmed");
    s.write(usize::MAX);
    assert!(s.outbox.confirm(ack(0, false), now).is_err());
    assert_eq!(s.outbox.confirm(ack(0, true), now), Ok(()), "0 and multiple: all");
    assert_eq!(s.outbox.confirm(ack(1, false), now), Ok(()), "a second time changes nothing");
    assert_eq!(s.outbox.settled(), Position::new(1));
}

#[test]
fn a_message_larger_than_the_window_is_taken_alone() {
    let mut s = Scenario::new();
    assert!(s.outbox.has_room());
    s.push(3 << 20);
    assert!(!s.outbox.has_room());
    s.write(usize::MAX);
    s.confirm(Verb::Ack, 1, false);
    assert!(s.outbox.has_room());
    assert!(s.outbox.allocated() < 1 << 20, "the large segment is freed");
}

#[test]
fn memory_is_small_again_after_a_flood() {
    let mut s = Scenario::new();
    for _ in 0..20 {
        while s.outbox.has_room() {
            s.push(50_000);
        }
        s.write(usize::MAX);
        let last = s.outbox.last_tag();
        s.confirm(Verb::Ack, last, true);
    }
    s.outbox.shrink();
    assert!(s.outbox.allocated() <= SEGMENT, "{}", s.outbox.allocated());
}

#[test]
fn one_at_a_time_nothing_is_allocated() {
    let mut s = Scenario::new();
    for _ in 0..1000 {
        s.push(1500);
        s.write(usize::MAX);
        let last = s.outbox.last_tag();
        s.confirm(Verb::Ack, last, false);
        assert_eq!(s.outbox.allocated(), SEGMENT);
    }
}

#[test]
fn a_nacked_message_does_not_hold_the_window() {
    let mut s = Scenario::new();
    s.push(10);
    s.write(usize::MAX);
    s.confirm(Verb::Nack, 1, false);
    for _ in 0..500 {
        assert!(s.outbox.has_room());
        s.push(10_000);
        s.write(usize::MAX);
        let last = s.outbox.last_tag();
        s.confirm(Verb::Ack, last, false);
    }
    assert_eq!(s.outbox.settled(), Position::new(0));
}

#[test]
fn what_the_broker_finds_too_large_is_given_up_and_the_rest_goes_on() {
    let mut s = Scenario::new();
    for size in [100, 3000, 100] {
        s.push(size);
    }
    s.write(usize::MAX);
    s.outbox.connection_lost();
    s.outbox.give_up_larger_than(2000);
    let abandoned = s.outbox.next_abandoned().expect("one");
    assert_eq!((abandoned.position, abandoned.reason), (Position::new(1), AbandonReason::TooLarge));
    s.reconnect(FRAME_MAX_SIZE);
    s.write(usize::MAX);
    assert_eq!(s.received, [0, 2]);
    s.confirm(Verb::Ack, 2, true);
    assert_eq!(s.outbox.settled(), Position::new(1), "not before it was told");
    s.outbox.told(Position::new(1), None);
    assert_eq!(s.outbox.settled(), Position::new(3));
}

#[test]
fn a_message_that_was_given_up_is_settled_with_its_notice() {
    let mut s = Scenario::new();
    s.push(100);
    s.push(3000);
    s.write(usize::MAX);
    s.outbox.connection_lost();
    s.outbox.give_up_larger_than(2000);
    let abandoned = s.outbox.next_abandoned().expect("one");
    let notice = s.push(100);
    s.outbox.told(abandoned.position, Some(notice));
    s.reconnect(FRAME_MAX_SIZE);
    s.write(usize::MAX);
    assert_eq!(s.received, [0, 2]);
    s.confirm(Verb::Ack, 1, false);
    assert_eq!(s.outbox.settled(), abandoned.position, "a crash now would lose both");
    s.confirm(Verb::Ack, 2, false);
    assert_eq!((s.outbox.settled(), s.outbox.unsettled()), (notice.next(), 0));
}

#[test]
fn what_another_process_has_is_not_written_again_and_the_rest_is() {
    let mut s = Scenario::new();
    for _ in 0..9 {
        s.push(1000);
    }
    s.write(4500);
    assert_eq!(s.received, [0, 1, 2, 3], "and half of 4");
    s.discard(1);
    s.check();
    s.write(usize::MAX);
    assert_eq!(s.received, [0, 1, 2, 3, 4, 5, 6, 8], "the half is finished, 7 is not begun");
    s.reconnect(FRAME_MAX_SIZE);
    s.discard(1);
    s.write(usize::MAX);
    assert_eq!(s.received, [0, 2, 3, 5, 6, 8]);
    assert_eq!(s.outbox.counters().republished, 6);
    s.confirm(Verb::Ack, 6, true);
    s.check();
    assert_eq!((s.outbox.settled(), s.outbox.unsettled()), (s.outbox.end(), 0));
    assert_eq!(s.outbox.counters().discarded, 3);
}

#[test]
fn a_late_confirm_of_what_was_discarded_says_nothing() {
    let mut s = Scenario::new();
    for _ in 0..3 {
        s.push(10);
    }
    s.write(usize::MAX);
    s.discard(0);
    for (verb, tag) in [(Verb::Nack, 1), (Verb::Ack, 2), (Verb::Ack, 3)] {
        s.confirm(verb, tag, false);
        s.check();
    }
    assert_eq!((s.outbox.settled(), s.outbox.next_retry()), (s.outbox.end(), None));
}

#[derive(Clone, Debug)]
enum Step {
    Discard(u32),
    Push(usize),
    Write(usize),
    Confirm { verb: Verb, which: prop::sample::Index, multiple: bool },
    Reconnect(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let verb = prop_oneof![6 => Just(Verb::Ack), 1 => Just(Verb::Nack)];
    prop_oneof![
        8 => prop_oneof![8 => 0usize..3_000, 1 => 0usize..300_000].prop_map(Step::Push),
        6 => prop_oneof![4 => 0usize..8_000, 1 => 0usize..400_000].prop_map(Step::Write),
        6 => (verb, any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(verb, which, multiple)| Step::Confirm { verb, which, multiple }),
        1 => (FRAME_MIN_SIZE..FRAME_MAX_SIZE).prop_map(Step::Reconnect),
        2 => (0u64..20_000).prop_map(Step::Wait),
        1 => (0u32..3).prop_map(Step::Discard),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn settled_never_passes_an_open_message_and_none_is_lost(steps in proptest::collection::vec(step(), 1..250)) {
        let mut s = Scenario::new();
        for step in steps {
            match step {
                Step::Push(size) if s.outbox.has_room() => {
                    s.push(size);
                }
                Step::Push(_) => {}
                Step::Write(n) => {
                    s.write(n);
                }
                Step::Confirm { verb, which, multiple } if !s.outstanding.is_empty() => {
                    let tags: Vec<u64> = s.outstanding.iter().copied().collect();
                    s.confirm(verb, *which.get(&tags), multiple);
                }
                Step::Confirm { .. } => {}
                Step::Reconnect(frame_max) => s.reconnect(frame_max),
                Step::Discard(shard) => s.discard(shard),
                Step::Wait(milliseconds) => s.now += Duration::from_millis(milliseconds),
            }
            s.check();
            let largest = WINDOW.bytes + 320_000;
            prop_assert!(s.outbox.allocated() <= 2 * largest + 10 * SEGMENT, "{}", s.outbox.allocated());
        }
        // A broker that takes everything: all is settled in the end.
        while s.outbox.settled() < s.outbox.end() {
            s.now = s.outbox.next_retry().unwrap_or(s.now).max(s.now);
            s.write(usize::MAX);
            for tag in s.outstanding.clone() {
                s.confirm(Verb::Ack, tag, false);
            }
            s.check();
        }
        prop_assert_eq!(s.acked.len() + s.abandoned.len() + s.discarded.len(), s.outbox.end().get() as usize);
    }
}
