//! What was sent and is not known to be taken, in the order of sending.

use std::collections::VecDeque;

use serde::Deserialize;

use crate::encoding::{self, Encoding, Value};

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

    /// The server refuses a message with this nonce; whether it is one of these.
    pub(super) fn refused(&mut self, nonce: &Value, why: &str) -> bool {
        if nonce.is_null() {
            return false;
        }
        let known =
            self.sent.iter_mut().find(|sent| sent.refused.is_none() && nonce_of(&sent.body).as_ref() == Some(nonce));
        if let Some(sent) = known {
            sent.refused = Some(why.to_owned());
            return true;
        }
        false
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

/// Read only when it is asked for: that is seldom.
fn nonce_of(body: &[u8]) -> Option<Value> {
    #[derive(Deserialize)]
    struct Dispatch<'a> {
        #[serde(borrow)]
        d: Message<'a>,
    }
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        nonce: &'a serde_json::value::RawValue,
    }
    let dispatch: Dispatch<'_> = serde_json::from_slice(body).ok()?;
    encoding::read(Encoding::Json, dispatch.d.nonce.get().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_is_refused_is_known_by_its_nonce() {
        let mut window = window(3);
        assert!(window.refused(&Value::string("s:2"), "invalid"));
        assert!(!window.refused(&Value::string("s:2"), "invalid"), "told once");
        assert!(!window.refused(&Value::string("s:9"), "invalid") && !window.refused(&Value::Null, "invalid"));
        let refused: Vec<_> = window.covered(6).into_iter().map(|sent| sent.refused.is_some()).collect();
        assert_eq!(refused, [false, true, false]);
    }
}
