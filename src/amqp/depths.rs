//! How many messages wait in queues, and how many consumers they have: asked one by one, on a channel of its own.

use lapin::Channel;

use super::admin::Admin;
use super::error::AdminError;
use super::topology::depth;

/// Asks over one connection. Keeps its channel between questions.
#[derive(Debug)]
pub struct Depths {
    admin: Admin,
    channel: Option<Channel>,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait. Not those that consumers have and did not acknowledge.
    pub messages: u32,
    /// Its consumers.
    pub consumers: u32,
}

impl Depths {
    /// Asks over the consumption connection, which no alarm blocks.
    pub fn new(consumption: Admin) -> Self {
        Self { admin: consumption, channel: None }
    }

    /// What this queue holds; `None` where there is none, or it is another connection's alone.
    ///
    /// # Errors
    /// What RabbitMQ said; nothing is known then.
    pub async fn of(&mut self, queue: &str) -> Result<Option<Depth>, AdminError> {
        // Taken out: a refusal closes it, and who stops waiting leaves no answer to come behind.
        let channel = match self.channel.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => self.admin.channel().await?,
        };
        match depth(&channel, queue).await {
            Ok((messages, consumers)) => {
                self.channel = Some(channel);
                Ok(Some(Depth { messages, consumers }))
            }
            Err(AdminError::Locked { .. }) => Ok(None),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the channel back: nothing is asked for a while.
    pub fn rest(&mut self) {
        self.channel = None;
    }
}
