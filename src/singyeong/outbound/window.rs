//! What was sent and is not known to be taken, in the order of sending.

use std::collections::VecDeque;

use super::body;
use super::packet::Refused;

/// See the module.
#[derive(Debug)]
pub(super) struct Window<T> {
    sent: VecDeque<Sent<T>>,
}

/// A message that was sent.
#[derive(Debug)]
pub(super) struct Sent<T> {
    /// Its number among what was said on this connection.
    number: u64,
    /// The dispatch, in JSON.
    pub(super) body: Vec<u8>,
    /// By what it is settled.
    pub(super) receipt: T,
    /// Why the server refuses it, if it does.
    pub(super) refused: Option<String>,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { sent: VecDeque::new() }
    }
}

impl<T> Window<T> {
    /// A message was sent.
    pub(super) fn push(&mut self, number: u64, body: Vec<u8>, receipt: T) {
        self.sent.push_back(Sent { number, body, receipt, refused: None });
    }

    /// The server has taken what was said up to this number.
    pub(super) fn covered(&mut self, number: u64) -> Vec<Sent<T>> {
        let count = self.sent.partition_point(|sent| sent.number <= number);
        self.sent.drain(..count).collect()
    }

    /// The server refuses one of these, as far as it says which; whether it is known. Of one event there may be several, by as
    /// many rules: their targets tell them apart.
    pub(super) fn refused(&mut self, refused: &Refused, why: &str) -> bool {
        if refused.nonce.is_null() {
            return false;
        }
        let is_meant =
            |sent: &Sent<T>| sent.refused.is_none() && body::nonce(&sent.body).as_ref() == Some(&refused.nonce);
        let meant: Vec<usize> = (0..self.sent.len()).filter(|at| is_meant(&self.sent[*at])).collect();
        let by_target = meant.iter().find(|at| body::target(&self.sent[**at].body).as_ref() == Some(&refused.target));
        let Some(at) = by_target.or(meant.first()) else { return false };
        self.sent[*at].refused = Some(why.to_owned());
        true
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// The one that was sent first.
    pub(super) fn oldest(&self) -> Option<&Sent<T>> {
        self.sent.front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{self, Encoding, Value};

    fn window(count: u64) -> Window<u64> {
        let mut window = Window::default();
        for number in 1..=count {
            let body = format!(r#"{{"op":4,"d":{{"target":{{}},"nonce":"s:{number}","payload":{{"nonce":1}}}}}}"#);
            // Of every two that are said one is an answer, and none of these.
            window.push(2 * number, body.into_bytes(), number);
        }
        window
    }

    #[test]
    fn what_is_covered_leaves_in_order() {
        let mut window = window(5);
        assert_eq!(window.covered(1).len(), 0);
        let covered: Vec<u64> = window.covered(7).into_iter().map(|sent| sent.receipt).collect();
        assert_eq!((covered, window.len()), (vec![1, 2, 3], 2));
        assert_eq!(window.oldest().map(|sent| sent.receipt), Some(4));
        assert!(!window.is_empty() && window.covered(100).len() == 2 && window.is_empty());
    }

    fn refused(nonce: &str, target: &str) -> Refused {
        let target = encoding::read(Encoding::Json, target.as_bytes()).expect("JSON");
        Refused { error: "invalid".to_owned(), nonce: Value::string(nonce), target }
    }

    fn which<T>(window: &mut Window<T>) -> Vec<bool> {
        window.covered(u64::MAX).into_iter().map(|sent| sent.refused.is_some()).collect()
    }

    #[test]
    fn what_is_refused_is_known_by_its_nonce() {
        let mut window = window(3);
        assert!(window.refused(&refused("s:2", "null"), "invalid"));
        assert!(!window.refused(&refused("s:2", "null"), "invalid"), "told once");
        let of_none = Refused { nonce: Value::Null, ..refused("", "null") };
        assert!(!window.refused(&refused("s:9", "null"), "invalid") && !window.refused(&of_none, "invalid"));
        assert_eq!(which(&mut window), [false, true, false]);
    }

    #[test]
    fn what_is_refused_of_two_rules_for_an_event_is_known_by_its_target() {
        let window = || {
            let mut window = Window::default();
            for number in 1..=3 {
                let body = format!(r#"{{"op":4,"d":{{"target":{{"key":{number}}},"nonce":"s:7","payload":0}}}}"#);
                window.push(number, body.into_bytes(), number);
            }
            window
        };
        let (mut by_target, mut by_none) = (window(), window());
        assert!(by_target.refused(&refused("s:7", r#"{"key":2}"#), "invalid"));
        assert_eq!(which(&mut by_target), [false, true, false]);
        assert!(by_none.refused(&refused("s:7", "null"), "invalid"));
        assert_eq!(which(&mut by_none), [true, false, false], "one of them it is");
    }
}
