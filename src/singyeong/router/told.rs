//! What a client is told of what it sent, wherever it is connected: that nobody matched, or what the gateway answers.

use super::envelope;
use super::mail::{self, Letter, Undone};
use super::origin::{Address, Op, Origin};
use super::parcel::{Kind, Parcel};
use super::{MOST_TRIES, Shared};
use crate::cluster::node::NodeId;
use crate::encoding::Value;
use crate::singyeong::ids::ClientKey;
use crate::singyeong::packet::outgoing::{Outgoing, Refusal};

/// What it is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// Nobody matched what it sent.
    NoRoute {
        op: Op,
        /// The packet's.
        ts: Value,
        /// With all keys.
        target: Value,
        nonce: Value,
        payload: Value,
    },
    /// What the gateway says to a command.
    Answer { nonce: Value, payload: Value, sender: Value },
}

impl Told {
    /// Nobody matched a message of this origin.
    pub(super) fn no_route(origin: &Origin, envelope: &envelope::Envelope) -> Self {
        Self::NoRoute {
            op: origin.op,
            ts: origin.ts(),
            target: envelope.query.to_value(),
            nonce: envelope.contents.nonce.clone(),
            payload: envelope.contents.payload.clone(),
        }
    }

    /// As the body of a parcel has it.
    pub(super) fn of_no_route(op: Op, body: &Value) -> Self {
        let [ts, target, nonce, payload] = ["ts", "target", "nonce", "payload"].map(|key| field(body, key));
        Self::NoRoute { op, ts, target, nonce, payload }
    }

    /// As the body of a parcel has it.
    pub(super) fn of_answer(body: &Value) -> Self {
        let [nonce, payload, sender] = ["nonce", "payload", "sender"].map(|key| field(body, key));
        Self::Answer { nonce, payload, sender }
    }

    fn packet(self) -> Outgoing {
        match self {
            Self::NoRoute { op, ts, target, nonce, payload } => {
                Outgoing::Invalid(Refusal::no_route_of_message(op.name(), ts, nonce, payload, target))
            }
            Self::Answer { nonce, payload, sender } => {
                let sender = sender.as_str().map(Into::into);
                Outgoing::message(false, nonce, payload, sender)
            }
        }
    }

    fn kind(&self, to: &ClientKey) -> Kind {
        let to = Address::of(to);
        match self {
            Self::NoRoute { op, .. } => Kind::NoRoute { to, op: *op },
            Self::Answer { .. } => Kind::Answer { to },
        }
    }

    fn body(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::NoRoute { op: _, ts, target, nonce, payload } => {
                envelope::body(&[("ts", ts), ("target", target), ("nonce", nonce), ("payload", payload)])
            }
            Self::Answer { nonce, payload, sender } => {
                envelope::body(&[("nonce", nonce), ("payload", payload), ("sender", sender)])
            }
        }
    }
}

fn field(body: &Value, key: &str) -> Value {
    body.get(key).cloned().unwrap_or(Value::Null)
}

impl Shared {
    /// Tells a client, wherever it is; where nobody knows, at `last`. Who is gone is told nothing.
    ///
    /// # Errors
    /// When it is not known to be on its way.
    pub(super) async fn tell(
        &self,
        to: &ClientKey,
        last: Option<&NodeId>,
        told: Told,
        tries: u32,
        is_ours: impl Fn() -> bool,
    ) -> Result<(), Undone> {
        let known = self.hub.get(to);
        let Some(node) = known.as_ref().map(|client| &client.node).or(last) else { return Ok(()) };
        if node == self.hub.own() {
            // Either it is written, or its connection is gone.
            let _ = self.hub.deliver(to, told.packet(), None);
            return Ok(());
        }
        if tries >= MOST_TRIES {
            return Ok(());
        }
        let (content_type, body) = told.body();
        let (properties, parcel) = (mail::of_type(content_type), Parcel::again(told.kind(to), tries));
        let letter = Letter { properties: &properties, body: &body };
        match self.to_node(to, node, &parcel, letter, is_ours).await {
            Err(Undone::Unroutable) => Ok(()),
            done => done,
        }
    }
}
