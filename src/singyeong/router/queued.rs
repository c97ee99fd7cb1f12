//! Queues' messages that other processes sent for clients of ours, and those that came back from a process that is gone.

use super::Shared;
use super::mail::{self, Letter, Undone};
use crate::amqp::delivery::Delivery;
use crate::amqp::topology::{Queue, singyeong};

impl Shared {
    /// Puts a queue's message back: behind the others, for whoever asks next.
    pub(super) async fn queue_again(
        &self,
        application: Option<&str>,
        queue: &str,
        delivery: &Delivery,
    ) -> Result<(), Undone> {
        let declared = match application {
            Some(application) => Queue::of_application(&self.group, application, queue),
            None => Queue::of_no_application(&self.group, queue),
        };
        let declared = declared.map_err(Undone::Refused)?;
        let letter = Letter { properties: &delivery.properties, body: &delivery.body };
        let lane = mail::lane_of(queue);
        match application {
            Some(application) => {
                let key = singyeong::queue_key(application, queue);
                self.mail.to_queue(lane, &key, &declared, letter, || delivery.is_held()).await
            }
            None => self.mail.to_declared(lane, &declared, letter, || delivery.is_held()).await,
        }
    }
}
