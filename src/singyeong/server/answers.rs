//! What a connection is still to answer, in the order of the questions, and how much of it may be under way.

use std::collections::VecDeque;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;

use crate::singyeong::exchange::Later;
use crate::singyeong::packet::outgoing::Outgoing;

/// So many answers of one connection may be awaited; then nothing more is read of it.
const MOST_UNDER_WAY: usize = 32;

/// See the module.
pub struct Answers {
    awaited: FuturesOrdered<Later<Option<Outgoing>>>,
    /// What each weighs, in the same order.
    weights: VecDeque<Weight>,
    /// The questions' bytes, all together.
    bytes: usize,
    most_bytes: usize,
    /// Whether one of them is a list of clients: each may be as large as all that is known.
    lists: bool,
}

#[derive(Clone, Copy)]
struct Weight {
    bytes: usize,
    is_list: bool,
}

impl Answers {
    /// None yet; questions under way may have about so many bytes.
    pub fn new(most_bytes: usize) -> Self {
        Self { awaited: FuturesOrdered::new(), weights: VecDeque::new(), bytes: 0, most_bytes, lists: false }
    }

    /// An answer to a question of so many bytes.
    pub fn push(&mut self, answer: Later<Option<Outgoing>>, bytes: usize) {
        self.enter(answer, Weight { bytes, is_list: false });
    }

    /// An answer that lists clients: nothing is to be read until it is given.
    pub fn push_list(&mut self, answer: Later<Option<Outgoing>>) {
        self.lists = true;
        self.enter(answer, Weight { bytes: 0, is_list: true });
    }

    fn enter(&mut self, answer: Later<Option<Outgoing>>, weight: Weight) {
        self.bytes += weight.bytes;
        self.weights.push_back(weight);
        self.awaited.push_back(answer);
    }

    /// The next, in the order of the questions; `None` at once if none is awaited. Dropped, it loses nothing.
    pub async fn next(&mut self) -> Option<Option<Outgoing>> {
        let answer = self.awaited.next().await?;
        let weight = self.weights.pop_front().expect("each has one");
        self.bytes -= weight.bytes;
        if weight.is_list {
            self.lists = false;
        }
        if self.weights.is_empty() {
            self.weights = VecDeque::new();
        }
        Some(answer)
    }

    /// Whether none is awaited.
    pub fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Whether so much is under way that nothing more is to be asked.
    pub fn are_many(&self) -> bool {
        self.weights.len() >= MOST_UNDER_WAY || self.bytes >= self.most_bytes || self.lists
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn as_many_are_under_way_as_their_number_bytes_and_lists_allow() {
        let mut answers = Answers::new(1000);
        answers.push(Box::pin(ready(None)), 999);
        assert!(!answers.are_many());
        answers.push(Box::pin(ready(None)), 1);
        assert!(answers.are_many());
        assert!(answers.next().await.is_some());
        assert!(!answers.are_many());
        answers.push_list(Box::pin(ready(None)));
        assert!(answers.are_many());
        assert!(answers.next().await.is_some() && answers.are_many(), "the list comes second");
        assert!(answers.next().await.is_some() && !answers.are_many() && answers.is_empty());
        for _ in 0..MOST_UNDER_WAY {
            assert!(!answers.are_many());
            answers.push(Box::pin(ready(None)), 0);
        }
        assert!(answers.are_many());
    }
}
