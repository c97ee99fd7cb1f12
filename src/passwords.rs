//! A password, or another word that lets in, of websocket clients and of HTTP requests: compared in constant time, and failures slowed.
//!
//! Knows no clock and no timer. Who fails waits for the answer, the longer the more has failed from the same address before, one
//! failure after the other. Who knows the password does not wait: behind one address there may be many.
//!
//! Where too many wait already, a password that a person has thought of is not compared any more, be it the right one: more
//! connections try no more words. A token that a machine has drawn is found by nobody who tries, and goes on being compared: wrong
//! ones of others keep nobody out who knows it.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::secret::Secret;

/// How long the first failure waits. Each further one adds twice as much as the one before it.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// And no more than this.
const LONGEST_STEP: Duration = Duration::from_secs(10);

/// Nobody waits longer: the connection would count as idle.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// An address is forgotten so long after its last failure was answered.
const MEMORY: Duration = Duration::from_secs(300);

/// So many addresses are remembered.
const MOST_ADDRESSES: usize = 4096;

/// The password, if there is one, and who has failed to tell it.
#[derive(Debug)]
pub struct Passwords {
    password: Option<Secret>,
    /// Whether it may be found by trying.
    may_be_guessed: bool,
    failures: Mutex<Failures>,
}

impl Passwords {
    /// Asks for this one, or for none.
    pub fn new(password: Option<Secret>) -> Self {
        Self { password, may_be_guessed: true, failures: Mutex::default() }
    }

    /// Asks for this token, which is long and random.
    pub fn of_token(token: Secret) -> Self {
        Self { may_be_guessed: false, ..Self::new(Some(token)) }
    }

    /// Whether there is a password.
    pub fn is_set(&self) -> bool {
        self.password.is_some()
    }

    /// What to make of what somebody at this address has given. Without a password anything is right.
    pub fn check(&self, given: Option<&str>, peer: IpAddr, now: Instant) -> Verdict {
        let Some(password) = &self.password else { return Verdict::Right };
        // No word was tried.
        let Some(given) = given else { return Verdict::Wrong(Duration::ZERO) };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let are_many = failures.are_many(peer, now);
        if are_many && self.may_be_guessed {
            return Verdict::TooMany;
        }
        if is_equal(password.expose().as_bytes(), given.as_bytes()) {
            return Verdict::Right;
        }
        if are_many { Verdict::TooMany } else { Verdict::Wrong(failures.wait(peer, now)) }
    }
}

/// What becomes of somebody who gives a password, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one.
    Right,
    /// It is not, or there is none: the answer waits for so long.
    Wrong(Duration),
    /// Too many wrong ones of this address wait already: it was not looked at, or is one more.
    TooMany,
}

/// Takes a time that depends on the length of what was given alone.
fn is_equal(password: &[u8], given: &[u8]) -> bool {
    let mut differences = usize::from(password.len() != given.len());
    for (at, byte) in given.iter().enumerate() {
        let other = password.get(at % password.len().max(1)).copied().unwrap_or_default();
        differences |= usize::from(black_box(byte ^ other));
    }
    black_box(differences) == 0
}

/// Addresses that have failed.
#[derive(Debug, Default)]
struct Failures(HashMap<IpAddr, Failed>);

#[derive(Clone, Copy, Debug)]
struct Failed {
    /// What the next failure adds.
    step: Duration,
    /// When the latest failure is answered.
    answered: Instant,
}

impl Failures {
    /// Whether one failure more of this address would have to wait too long.
    fn are_many(&self, peer: IpAddr, now: Instant) -> bool {
        self.0.get(&network(peer)).is_some_and(|failed| failed.answered + failed.step > now + LONGEST_WAIT)
    }

    /// A failure of this address, of which there are not too many: how long it waits for its answer.
    fn wait(&mut self, peer: IpAddr, now: Instant) -> Duration {
        let network = network(peer);
        if !self.0.contains_key(&network) && self.0.len() >= MOST_ADDRESSES {
            self.make_room(now);
        }
        let failed = self.0.entry(network).or_insert(Failed { step: FIRST_WAIT, answered: now });
        if now.saturating_duration_since(failed.answered) > MEMORY {
            *failed = Failed { step: FIRST_WAIT, answered: now };
        }
        failed.answered = failed.answered.max(now) + failed.step;
        failed.step = (failed.step * 2).min(LONGEST_STEP);
        failed.answered - now
    }

    /// Forgets those whose time has come, else the one that has waited for longest: an attacker of many addresses must not
    /// take more memory, and who was let in last has failed least.
    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, failed| now.saturating_duration_since(failed.answered) <= MEMORY);
        if self.0.len() >= MOST_ADDRESSES
            && let Some(oldest) = self.0.iter().min_by_key(|(_, failed)| failed.answered).map(|(peer, _)| *peer)
        {
            self.0.remove(&oldest);
        }
    }
}

/// What belongs to one host: of IPv6 a whole /64.
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn only_the_password_is_accepted_and_without_one_anything() {
        let accepts =
            |passwords: &Passwords, given: Option<&str>| passwords.check(given, PEER, Instant::now()) == Verdict::Right;
        for wrong in ["", "h", "hunter", "hunter3", "hunter22", "hunter2hunter2", "Hunter2"] {
            assert!(!accepts(&Passwords::new(Some(Secret::new("hunter2"))), Some(wrong)), "{wrong:?}");
        }
        let passwords = Passwords::new(Some(Secret::new("hunter2")));
        assert!(accepts(&passwords, Some("hunter2")) && !accepts(&passwords, None) && passwords.is_set());
        let open = Passwords::new(None);
        assert!(accepts(&open, None) && accepts(&open, Some("anything")) && !open.is_set());
        let empty = Passwords::new(Some(Secret::new("")));
        assert!(accepts(&empty, Some("")) && !accepts(&empty, Some("x")) && !accepts(&empty, None));
    }

    #[test]
    fn more_connections_try_no_more_words() {
        let (passwords, start) = (Passwords::new(Some(Secret::new("hunter2"))), Instant::now());
        let tried = |at: Instant| {
            let verdicts = (0..100).map(|_| passwords.check(Some("wrong"), PEER, at));
            verdicts.filter(|verdict| matches!(verdict, Verdict::Wrong(_))).count()
        };
        assert_eq!(tried(start), 7);
        assert_eq!(passwords.check(Some("hunter2"), PEER, start), Verdict::TooMany, "it is not looked at");
        assert_eq!(passwords.check(None, PEER, start), Verdict::Wrong(Duration::ZERO));
        assert_eq!(passwords.check(Some("hunter2"), [192, 0, 2, 2].into(), start), Verdict::Right);
        // From then on one in ten seconds, however often it is asked.
        let tried: usize = (1..=1000).map(|tenths| tried(start + Duration::from_millis(100 * tenths))).sum();
        assert_eq!(tried, 10);
        assert_eq!(passwords.check(Some("hunter2"), PEER, start + Duration::from_secs(130)), Verdict::Right);
    }

    #[test]
    fn wrong_tokens_of_others_do_not_keep_the_right_one_out() {
        let (token, start) = (Passwords::of_token(Secret::new("hunter2")), Instant::now());
        let verdicts: Vec<Verdict> = (0..100).map(|_| token.check(Some("wrong"), PEER, start)).collect();
        assert!(verdicts[..7].iter().all(|verdict| matches!(verdict, Verdict::Wrong(_))));
        assert!(verdicts[7..].iter().all(|verdict| *verdict == Verdict::TooMany));
        assert_eq!(token.check(Some("hunter2"), PEER, start), Verdict::Right);
        assert_eq!(token.check(Some("wrong"), PEER, start), Verdict::TooMany, "the right one forgives nobody");
    }

    #[test]
    fn each_failure_of_an_address_waits_longer_than_the_one_before_it() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let peer = IpAddr::from([192, 0, 2, 1]);
        let waits: Vec<u128> = (0..4).map(|_| failures.wait(peer, now).as_millis()).collect();
        assert_eq!(waits, [100, 300, 700, 1500]);
        while !failures.are_many(peer, now) {
            assert!(failures.wait(peer, now) <= LONGEST_WAIT);
        }
        assert_eq!(failures.wait(IpAddr::from([192, 0, 2, 2]), now), FIRST_WAIT);
        assert_eq!(failures.wait(peer, now + LONGEST_WAIT + MEMORY + FIRST_WAIT), FIRST_WAIT);
    }

    #[test]
    fn an_ipv6_network_is_one_and_ipv4_is_the_same_in_both_writings() {
        let parse = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:1"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), parse("192.0.2.1"));
    }

    #[test]
    fn many_addresses_take_no_more_room() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for number in 0..2 * MOST_ADDRESSES as u32 {
            failures.wait(IpAddr::from(number.to_be_bytes()), now);
        }
        assert_eq!(failures.0.len(), MOST_ADDRESSES);
    }
}
