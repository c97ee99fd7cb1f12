//! What the coordinator is told, and what it wants done.

use super::{MOST_MEMBERS, MOST_TOPIC_BYTES};
use crate::amybot::answer::Answer;
use crate::amybot::internal::Client;
use crate::amybot::member::Address;
use crate::amybot::message::{Message, Refusal, ServiceName};
use crate::discord::ids::ShardId;
use crate::encoding::Dialect;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Keep this, then say [`stored`](super::Coordinator::stored).
    Store(Vec<u8>),
    /// Wait for the shard's turn to identify, then say [`turn`](super::Coordinator::turn). Asked once until then.
    AskTurn(ShardId),
    /// Say this to an instance; the loss of its queue is [`queue_gone`](super::Coordinator::queue_gone).
    Send(Letter),
}

/// Something to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// To whom.
    pub to: Address,
    /// In which form.
    pub dialect: Dialect,
    /// What it answers, as its asker named it.
    pub correlation_id: Option<String>,
    /// What is said. That a shard is accepted is told back by [`accepted`](super::Coordinator::accepted).
    pub answer: Answer,
}

/// A message of a service with what came beside it.
#[derive(Clone, Debug)]
pub struct Said<'a> {
    /// Who says it.
    pub from: &'a Address,
    /// In which form.
    pub dialect: Dialect,
    /// Its name for the answer.
    pub correlation_id: Option<&'a str>,
    /// Its name for the message.
    pub message_id: Option<&'a str>,
    /// Its number, where a process tells it of a websocket connection: larger than those before it. The same may be told twice.
    pub number: Option<u64>,
    /// Whether it was delivered before, to us or to who was here before.
    pub redelivered: bool,
    /// What it says.
    pub message: &'a Message,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is done with the actions that it led to.
    Done,
    /// It is to be passed on.
    Proxied(Proxied),
    /// It is not done, and its sender is told why.
    Refused(Refused),
}

/// A message that is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// Who says it.
    pub source: ServiceName,
    /// The key under which it goes.
    pub topic: Box<str>,
    /// The websocket services that want it.
    pub to: Vec<Client>,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// For what the message says.
    #[error(transparent)]
    Message(#[from] Refusal),
    /// Its sender said before that it is somebody else.
    #[error("it is sent by {said:?}, but who sends it identified as \"{known}\"")]
    OtherName {
        /// By which name it identified.
        known: ServiceName,
        /// Who it says that it is.
        said: ServiceName,
    },
    /// No shard is free.
    #[error("no shard is free: services have all of the bot's {shard_count} that Optic does not run itself")]
    UsedUp {
        /// In how many shards the bot is split.
        shard_count: u32,
    },
    /// It is not known which shards there are.
    #[error("no shard is given: AMYBOT_SHARD_COUNT is not set")]
    NoCount,
    /// It gives back what it does not have.
    #[error("shard {0} is not its own")]
    NotItsShard(ShardId),
    /// There are too many instances already.
    #[error("there are {MOST_MEMBERS} instances of services already")]
    TooManyMembers,
    /// There are too many topics already.
    #[error("the topics of all services have more than {MOST_TOPIC_BYTES} bytes")]
    TooManyTopics,
}
