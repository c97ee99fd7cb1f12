//! The names of amybot in RabbitMQ (spec/amybot.md, "In RabbitMQ").

use lapin::types::{AMQPValue, FieldTable};

use super::{Binding, Queue, classic, drop_head};
use crate::amybot::internal;

impl Queue {
    /// What services say to the gateway, `G:gateway`. Who consumes it
    /// coordinates them.
    pub fn amybot(group: &str) -> Self {
        // Quorum, which may be the default, would exclude nobody; on a classic one declaring without arguments agrees.
        Self { arguments: classic(FieldTable::default()), ..Self::shared(group, "gateway") }
    }

    /// What services say to each other, `G:gateway-proxy`. Without arguments, for services may declare it too.
    pub fn amybot_proxy(group: &str) -> Self {
        Self::shared(group, "gateway-proxy")
    }

    /// What processes tell the one that coordinates, `G:optic:amybot`.
    pub fn amybot_internal(group: &str) -> Self {
        let binding = Some(Binding { exchange: group.to_owned(), keys: vec![internal::KEY.to_owned()] });
        Self { name: format!("{group}:{}", internal::KEY), binding, arguments: classic(FieldTable::default()) }
    }

    /// Who has which shard, `G:optic:amybot.pool`: one message.
    pub fn amybot_pool(group: &str) -> Self {
        let limits = [("x-max-length", AMQPValue::LongInt(1))];
        Self { name: format!("{group}:optic:amybot.pool"), binding: None, arguments: classic(drop_head(limits)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::topology::is_ours;

    #[test]
    fn its_queues_are_named_as_the_layout_says_and_take_no_answers() {
        let queues = [
            (Queue::amybot("g"), "g:gateway"),
            (Queue::amybot_proxy("g"), "g:gateway-proxy"),
            (Queue::amybot_internal("g"), "g:optic:amybot"),
            (Queue::amybot_pool("g"), "g:optic:amybot.pool"),
        ];
        for (queue, name) in queues {
            assert_eq!(queue.name(), name);
            assert!(is_ours("g", name), "{name}");
        }
    }
}
