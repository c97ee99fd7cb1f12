//! What we say of our own clients: news, snapshots, heartbeats.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::message::{Key, News, Says};
use super::{Own, record};
use crate::singyeong::ids::ClientKey;

/// How long what changes is collected, after something was said.
const PAUSE: Duration = Duration::from_millis(50);
/// How often heartbeats are told. Something is said as often at least, so that who missed the last message finds out.
const HEARTBEATS_EVERY: Duration = Duration::from_secs(5);
/// So many bytes a message has at most, about; a client that needs more goes alone.
pub(super) const MOST_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Voice {
    /// So many messages were said.
    number: u64,
    /// Whether others are to be asked what we missed.
    hello: bool,
    news: Marked,
    /// So many of the news, the first ones, are said without a pause: those that were there when saying them began.
    turn: usize,
    /// No news before this.
    rest: Option<Instant>,
    beats: BTreeSet<ClientKey>,
    beats_at: Option<Instant>,
    snapshots: Snapshots,
}

/// Keys in the order in which they came, each once.
#[derive(Debug, Default)]
struct Marked {
    order: VecDeque<ClientKey>,
    keys: HashSet<ClientKey>,
}

#[derive(Debug, Default)]
struct Snapshots {
    /// Whether another one is to be begun.
    is_wanted: bool,
    /// The one that is under way.
    under_way: Option<Cursor>,
    /// The number of the message with which the last one began; 0 without one.
    began: u64,
    /// Whether the next message is of it, though there are news.
    is_next: bool,
}

/// Which client was the last.
#[derive(Debug)]
struct Cursor(Option<ClientKey>);

impl Voice {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Counts a message that is being said.
    pub(super) fn count(&mut self) {
        self.number += 1;
    }

    pub(super) fn changed(&mut self, key: &ClientKey) {
        self.news.mark(key);
    }

    pub(super) fn beat(&mut self, key: &ClientKey) {
        self.beats.insert(key.clone());
    }

    pub(super) fn joined(&mut self) {
        self.hello = true;
    }

    pub(super) fn takes_hello(&mut self) -> bool {
        std::mem::take(&mut self.hello)
    }

    /// Somebody hears us from now on, and has heard everything up to this number before.
    pub(super) fn greeted(&mut self, heard: Option<u64>) {
        // Who has said nothing will say the first, and nobody misses anything then.
        if self.number > 0 && heard != Some(self.number) {
            self.snapshots.is_wanted = true;
        }
    }

    /// Somebody misses something and has heard this number.
    pub(super) fn wanted(&mut self, heard: u64) {
        // One that began after it is on its way already: many ask at the same time, and again while they wait.
        if heard >= self.snapshots.began {
            self.snapshots.is_wanted = true;
        }
    }

    /// The next message about our clients.
    pub(super) fn say(&mut self, now: Instant, own: &impl Own) -> Option<Says> {
        let beats_at = *self.beats_at.get_or_insert(now + HEARTBEATS_EVERY);
        if self.turn == 0 && self.rest.is_none_or(|rest| rest <= now) {
            self.turn = self.news.len();
        }
        let says = if self.snapshots.are_due() && (self.turn == 0 || self.snapshots.is_next) {
            self.snapshots.is_next = false;
            self.snapshots.part(self.number + 1, own)
        } else if self.turn > 0 {
            self.snapshots.is_next = true;
            Says::News(self.some_news(now, own))
        } else if beats_at <= now {
            Says::News(self.heartbeats(now, own))
        } else {
            return None;
        };
        self.count();
        Some(says)
    }

    /// When there is something to say, if there is nothing now.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let news = self.rest.filter(|_| self.news.len() > 0);
        [news, self.beats_at].into_iter().flatten().min()
    }

    fn some_news(&mut self, now: Instant, own: &impl Own) -> News {
        let (mut news, mut size) = (News::default(), 0);
        while self.turn > 0
            && let Some(key) = self.news.first()
        {
            if let Some(client) = own.get(key) {
                let record = record::write(client);
                if !fits(&mut size, record.get().len(), news.is_empty()) {
                    break;
                }
                // The record has the last heartbeat, too.
                self.beats.remove(key);
                news.clients.push(record);
            } else {
                let key = Key::of(key);
                if !fits(&mut size, key.size(), news.is_empty()) {
                    break;
                }
                news.gone.push(key);
            }
            self.news.remove_first();
            self.turn -= 1;
        }
        if self.turn == 0 {
            self.rest = Some(now + PAUSE);
        }
        news
    }

    fn heartbeats(&mut self, now: Instant, own: &impl Own) -> News {
        let (mut news, mut size) = (News::default(), 0);
        while let Some(key) = self.beats.first() {
            if let Some(client) = own.get(key) {
                let key = Key::of(key);
                if !fits(&mut size, key.size(), news.is_empty()) {
                    break;
                }
                news.heartbeats.push((key, client.last_heartbeat));
            }
            self.beats.pop_first();
        }
        if self.beats.is_empty() {
            self.beats_at = Some(now + HEARTBEATS_EVERY);
        }
        news
    }
}

impl Snapshots {
    fn are_due(&self) -> bool {
        self.is_wanted || self.under_way.is_some()
    }

    /// The next part, to be said as the message of this number.
    fn part(&mut self, number: u64, own: &impl Own) -> Says {
        let begins = self.under_way.is_none();
        if begins {
            (self.is_wanted, self.began) = (false, number);
        }
        let Cursor(mut last) = self.under_way.take().unwrap_or(Cursor(None));
        let (mut clients, mut size) = (Vec::new(), 0);
        let ends = loop {
            let Some(client) = own.after(last.as_ref()) else { break true };
            let record = record::write(client);
            if !fits(&mut size, record.get().len(), clients.is_empty()) {
                break false;
            }
            clients.push(record);
            last = Some(client.key.clone());
        };
        if !ends {
            self.under_way = Some(Cursor(last));
        }
        Says::Snapshot { begins, ends, clients }
    }
}

impl Marked {
    fn mark(&mut self, key: &ClientKey) {
        if self.keys.insert(key.clone()) {
            self.order.push_back(key.clone());
        }
    }

    fn first(&self) -> Option<&ClientKey> {
        self.order.front()
    }

    fn remove_first(&mut self) {
        if let Some(key) = self.order.pop_front() {
            self.keys.remove(&key);
        }
    }

    fn len(&self) -> usize {
        self.order.len()
    }
}

/// Whether `more` bytes go into a message of `size` bytes; into one with nothing in it they do in any case.
fn fits(size: &mut usize, more: usize, is_first: bool) -> bool {
    *size += more + 1;
    is_first || *size <= MOST_BYTES
}
