//! The clients of one application, in the order of their ids, and how one of several is chosen.

use std::sync::Arc;

use super::Put;
use crate::cluster::node::NodeId;
use crate::singyeong::client::Client;
use crate::singyeong::ids::ClientId;
use crate::singyeong::metadata::Metadata;
use crate::singyeong::query::Subject;
use crate::singyeong::query::key::{ClientHash, KeyHash};

/// The clients of an application. In one row: going through it is what costs.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<Member>);

/// What queries ask of a client lies beside it: looking at the client itself would cost more than the question.
#[derive(Debug)]
struct Member {
    hash: ClientHash,
    restricted: bool,
    metadata: Metadata,
    client: Arc<Client>,
}

/// Somebody who may be found.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    hash: ClientHash,
    pub restricted: bool,
    pub subject: Subject<'a>,
    pub client: &'a Arc<Client>,
}

/// So often a client is drawn and asked before all are gone through: where most match, one of the first matches.
const DRAWS: usize = 16;

impl Members {
    pub fn put(&mut self, client: Client) -> Put {
        let at = match self.find(&client.key.client) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, Member::new(client));
                return Put::New;
            }
        };
        self.0[at] = Member::new(client);
        Put::Updated
    }

    pub fn remove(&mut self, id: &ClientId, node: &NodeId) -> Option<Arc<Client>> {
        let at = self.find(id).ok()?;
        (self.0[at].client.node == *node).then(|| self.0.remove(at).client)
    }

    pub fn beat(&mut self, id: &ClientId, at: u64) {
        if let Ok(place) = self.find(id) {
            Arc::make_mut(&mut self.0[place].client).last_heartbeat = at;
        }
    }

    pub fn get(&self, id: &ClientId) -> Option<&Arc<Client>> {
        Some(&self.0[self.find(id).ok()?].client)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.0.iter().map(|member| &member.client)
    }

    pub fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.0.iter().map(Member::candidate)
    }

    /// One that matches, by chance, if a few draws find one. Then each that matches is it as likely as any other.
    pub fn draw(&self, rng: &mut fastrand::Rng, matches: impl Fn(Candidate<'_>) -> bool) -> Option<&Arc<Client>> {
        // Fewer are faster gone through.
        if self.0.len() <= DRAWS {
            return None;
        }
        let mut draws = (0..DRAWS).map(|_| self.0[rng.usize(..self.0.len())].candidate());
        draws.find(|candidate| matches(*candidate)).map(|candidate| candidate.client)
    }

    fn find(&self, id: &ClientId) -> Result<usize, usize> {
        self.0.binary_search_by(|member| member.client.key.client.cmp(id))
    }
}

impl Member {
    fn new(client: Client) -> Self {
        let hash = ClientHash::of(client.key.client.as_str());
        Self { hash, restricted: client.restricted, metadata: client.metadata.clone(), client: Arc::new(client) }
    }

    fn candidate(&self) -> Candidate<'_> {
        let Self { hash, restricted, metadata, client } = self;
        Candidate { hash: *hash, restricted: *restricted, subject: Subject { metadata, client }, client }
    }
}

impl<'a> Candidate<'a> {
    pub fn of(client: &'a Arc<Client>) -> Self {
        let hash = ClientHash::of(client.key.client.as_str());
        Self { hash, restricted: client.restricted, subject: Subject::of(client), client }
    }
}

/// The one that has the key, or any, of those that match; each of them is asked at most once.
pub(super) fn choose<'a>(
    candidates: impl Iterator<Item = Candidate<'a>>,
    key: Option<KeyHash>,
    rng: &mut fastrand::Rng,
    matches: impl Fn(Candidate<'_>) -> bool,
) -> Option<&'a Arc<Client>> {
    let mut chosen = None;
    if let Some(key) = key {
        let mut greatest = 0;
        for candidate in candidates {
            let weight = candidate.hash.weight(key);
            if (weight > greatest || chosen.is_none()) && matches(candidate) {
                (greatest, chosen) = (weight, Some(candidate.client));
            }
        }
    } else {
        for (before, candidate) in candidates.filter(|candidate| matches(*candidate)).enumerate() {
            // The n-th takes the place with a chance of 1 in n: in the end all have had the same.
            if rng.usize(..=before) == 0 {
                chosen = Some(candidate.client);
            }
        }
    }
    chosen
}
