//! What a service has said and RabbitMQ does not have yet: told one after the other, in the order of the saying.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::limits::Limits;
use super::line::Line;
use super::outbox::Outbox;
use crate::amybot::internal::{Client, Internal};
use crate::amybot::message::Message;

/// See the module.
pub struct Backlog {
    line: Arc<dyn Line>,
    connection: u64,
    outbox: Outbox,
    /// By what name it is told of, once it has one.
    client: Option<Client>,
    waiting: VecDeque<(Message, usize)>,
    /// The one that is being told, or the name that is waited for.
    current: Option<BoxFuture<'static, Done>>,
    /// Of what waits and is being told.
    bytes: usize,
    count: usize,
    limits: Limits,
}

enum Done {
    Joined(Client),
    Told(usize),
}

impl Backlog {
    /// Of a connection that has said nothing yet.
    pub fn new(line: Arc<dyn Line>, connection: u64, outbox: Outbox, limits: Limits) -> Self {
        let (client, waiting, current) = Default::default();
        Self { line, connection, outbox, client, waiting, current, bytes: 0, count: 0, limits }
    }

    /// Takes a message of so many bytes.
    pub fn push(&mut self, message: Message, bytes: usize) {
        self.bytes += bytes;
        self.count += 1;
        self.waiting.push_back((message, bytes));
        self.go_on();
    }

    /// Whether so much waits that nothing more is to be read.
    pub fn is_full(&self) -> bool {
        self.count >= self.limits.backlog || self.bytes >= self.limits.backlog_bytes
    }

    /// How many are not told yet.
    pub fn len(&self) -> usize {
        self.count
    }

    /// By what name it is told of.
    pub fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// Waits until one step is done; `None` at once when there is nothing to tell. Dropped, it loses nothing.
    pub async fn step(&mut self) -> Option<()> {
        match self.current.as_mut()?.await {
            Done::Joined(client) => self.client = Some(client),
            Done::Told(bytes) => {
                self.bytes -= bytes;
                self.count -= 1;
            }
        }
        self.current = None;
        self.go_on();
        Some(())
    }

    /// Tells all the rest, and that the connection is gone.
    pub async fn finish(&mut self) {
        while self.step().await.is_some() {}
        if let Some(client) = &self.client {
            self.line.tell(self.connection, Internal::Left(client.clone())).await;
        }
    }

    fn go_on(&mut self) {
        if self.count == 0 || self.current.is_some() {
            return;
        }
        let future: BoxFuture<'static, Done> = match &self.client {
            None => {
                let joining = self.line.join(self.connection, self.outbox.clone());
                Box::pin(async move { Done::Joined(joining.await) })
            }
            Some(client) => {
                let Some((message, bytes)) = self.waiting.pop_front() else { return };
                let telling = self.line.tell(self.connection, Internal::Said(client.clone(), message));
                Box::pin(async move {
                    telling.await;
                    Done::Told(bytes)
                })
            }
        };
        self.current = Some(future);
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.line.part(self.connection);
    }
}
