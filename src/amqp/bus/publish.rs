//! The way out: what is published, in order, one at a time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::admin::bounded;
use super::super::error::AdminError;
use super::super::topology::{fanout, short};
use super::BusDriver;

/// So many wait at most: announcements are coalesced, so that more than some are a sign that RabbitMQ takes nothing.
const CAPACITY: usize = 32;
/// How long what is left at the end may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// The pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What is to be published; the newest is behind.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queued: Mutex<VecDeque<Vec<u8>>>,
    changed: Notify,
}

/// A message whose giver waits until it is published.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) message: Vec<u8>,
    pub(super) published: oneshot::Sender<()>,
}

impl Outbox {
    pub(super) fn put(&self, message: Vec<u8>) {
        let mut queued = self.lock();
        if queued.len() == CAPACITY {
            queued.pop_front();
        }
        queued.push_back(message);
        drop(queued);
        self.changed.notify_one();
    }

    fn take(&self) -> Option<Vec<u8>> {
        self.lock().pop_front()
    }

    /// Puts what could not be published back, if nothing newer says more than it.
    fn put_back(&self, message: Vec<u8>) {
        let mut queued = self.lock();
        queued.push_front(message);
        let older = queued.len() - 1;
        queued.drain(..older);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusDriver {
    /// Publishes what is put into the outbox, and what is given; at the end, what is still in the outbox.
    pub(super) async fn publish(&self, stop: &CancellationToken) {
        let (mut channel, mut in_hand) = (None, None);
        let mut given = self.given.lock().await;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.bus.outbox.changed.notified() => {}
                Some(next) = given.recv() => in_hand = Some(next),
            }
            // Not raced with `stop`: that would lose what is on its way. It is bounded in time.
            while let Err(why) = self.publish_all(&mut channel, &mut in_hand).await {
                debug!(%why, "nothing was announced, trying on with the newest");
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = sleep(RETRY_PAUSE) => {}
                }
            }
        }
        // Who does not hear it finds our queue without a consumer.
        let _ = timeout(GOODBYE, self.publish_all(&mut channel, &mut in_hand)).await;
    }

    async fn publish_all(&self, channel: &mut Option<Channel>, in_hand: &mut Option<Given>) -> Result<(), AdminError> {
        while let Some(message) = self.bus.outbox.take() {
            if let Err(why) = self.publish_one(channel, &message).await {
                *channel = None;
                self.bus.outbox.put_back(message);
                return Err(why);
            }
        }
        if let Some(given) = in_hand.take() {
            if let Err(why) = self.publish_one(channel, &given.message).await {
                *channel = None;
                *in_hand = Some(given);
                return Err(why);
            }
            // Who gave it may not wait any more.
            let _ = given.published.send(());
        }
        Ok(())
    }

    async fn publish_one(&self, kept: &mut Option<Channel>, message: &[u8]) -> Result<(), AdminError> {
        // lapin sends nothing at all on a blocked connection, and would keep all of it in memory.
        self.administration.unblocked().await?;
        let exchange = self.line.exchange();
        let channel = match kept {
            Some(channel) => channel,
            None => {
                let channel = self.administration.confirming_channel().await?;
                fanout(&channel, exchange).await?;
                kept.insert(channel)
            }
        };
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(1)
            .with_app_id("optic".into());
        let name = short(exchange)?;
        let published = async {
            channel.basic_publish(name, "".into(), BasicPublishOptions::default(), message, properties).await?.await
        };
        // Also a nack is fine: a process whose queue is full hears the next.
        bounded("announce something", published).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_cannot_be_published_only_the_newest_is_kept() {
        let outbox = Outbox::default();
        for n in 0..3 {
            outbox.put(vec![n]);
        }
        let first = outbox.take().expect("three");
        outbox.put_back(first);
        assert_eq!((outbox.take(), outbox.take()), (Some(vec![2]), None));
        outbox.put_back(vec![7]);
        assert_eq!((outbox.take(), outbox.take()), (Some(vec![7]), None));
        for n in 0..100 {
            outbox.put(vec![n]);
        }
        assert_eq!(outbox.take(), Some(vec![100 - CAPACITY as u8]));
    }
}
