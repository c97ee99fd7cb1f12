//! Packets as a client says and hears them: the other direction of [`packet`](crate::singyeong::packet).

use std::time::Duration;

use crate::encoding::{self, Encoding, Term, Value};
use crate::secret::Secret;
use crate::singyeong::packet::incoming::{Op, Packet};
use crate::websocket::frames::FrameKind;

/// Who we are at a server.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The application.
    pub application: String,
    /// The client's id there.
    pub client: String,
    /// The server's password.
    pub password: Option<Secret>,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    Hello {
        interval: Option<Duration>,
    },
    Ready {
        restricted: bool,
    },
    /// Something that we said is refused.
    Invalid(Refused),
    Message(Message),
    HeartbeatAck,
    Goodbye,
    /// The server closes.
    Error(String),
    /// Nothing that we need.
    Other,
}

/// What a server refuses of what we said, and goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// In its words.
    pub error: String,
    /// The message's, if it says so.
    pub nonce: Value,
    /// The message's target, if it says so.
    pub target: Value,
}

/// A message from another client.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its sender's name for it.
    pub nonce: Value,
    /// What it says.
    pub payload: Value,
}

impl Refused {
    /// Whether there was only nobody to whom it could go: the message was all right.
    pub fn is_no_route(&self) -> bool {
        // As it has been worded before 2020.
        self.error == "no_route" || self.error.starts_with("no nodes match")
    }

    /// Whether the server only could not keep it now: another time it may.
    pub fn is_not_kept(&self) -> bool {
        self.error == "message not kept"
    }
}

impl Heard {
    /// Reads a frame.
    pub(super) fn read(encoding: Encoding, kind: FrameKind, bytes: &[u8]) -> Result<Self, String> {
        let Packet { op, d, t, .. } =
            Packet::read(encoding, kind, bytes).map_err(|refusal| refusal.error.into_string())?;
        Ok(match op {
            Op::Hello => {
                let interval = match d.get("heartbeat_interval") {
                    Some(Value::Integer(milliseconds)) => u64::try_from(*milliseconds).ok(),
                    _ => None,
                };
                Self::Hello { interval: interval.map(Duration::from_millis) }
            }
            Op::Ready => Self::Ready { restricted: d.get("restricted") == Some(&Value::Bool(true)) },
            Op::Invalid => {
                let info = d.get("extra_info");
                let field = |name| info.and_then(|info| info.get(name).or_else(|| info.get("d")?.get(name)));
                let [nonce, target] = ["nonce", "target"].map(|name| field(name).cloned().unwrap_or_default());
                Self::Invalid(Refused { error: error(&d), nonce, target })
            }
            // A BROADCAST comes to each process, and is a command to none: it would be carried out as often.
            Op::Dispatch if t.as_str() == Some("SEND") => {
                let field = |name| d.get(name).cloned().unwrap_or_default();
                Self::Message(Message { nonce: field("nonce"), payload: field("payload") })
            }
            Op::HeartbeatAck => Self::HeartbeatAck,
            Op::Goodbye => Self::Goodbye,
            Op::Error => Self::Error(error(&d)),
            Op::Dispatch | Op::Identify | Op::Heartbeat | Op::Unknown => Self::Other,
        })
    }
}

/// What a server says is wrong; not too much of it.
fn error(d: &Value) -> String {
    let text = d.get("error").and_then(Value::as_str).unwrap_or("it does not say why");
    text.chars().take(300).collect()
}

/// An identify. The password goes out here and nowhere else.
pub(super) fn identify(encoding: Encoding, who: &Identity, metadata: &Value) -> Vec<u8> {
    let mut d = vec![("client_id", Term::Text(&who.client)), ("application_id", Term::Text(&who.application))];
    // Servers without a password restrict whoever sends one.
    if let Some(password) = &who.password {
        d.push(("auth", Term::Text(password.expose())));
    }
    if !metadata.is_null() {
        d.push(("metadata", Term::Value(metadata)));
    }
    packet(encoding, 1, None, Term::Map(&d))
}

/// A heartbeat.
pub(super) fn heartbeat(encoding: Encoding, who: &Identity) -> Vec<u8> {
    packet(encoding, 5, None, Term::Map(&[("client_id", Term::Text(&who.client))]))
}

/// A dispatch.
pub(super) fn dispatch(encoding: Encoding, t: &str, d: &Term<'_>) -> Vec<u8> {
    packet(encoding, 4, Some(t), *d)
}

fn packet(encoding: Encoding, op: i64, t: Option<&str>, d: Term<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let t = t.map_or(Term::NULL, Term::Text);
    encoding::write_term(encoding, &Term::Map(&[("op", Term::Integer(op)), ("d", d), ("t", t)]), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::singyeong::ids::{Application, ClientId, ClientKey};
    use crate::singyeong::packet::identify::Auth;
    use crate::singyeong::packet::outgoing::{Outgoing, Refusal};

    const ENCODINGS: [Encoding; 3] = [Encoding::Json, Encoding::Msgpack, Encoding::Etf];

    fn who() -> Identity {
        let password = Some(Secret::new("hunter2"));
        Identity { application: "bot".to_owned(), client: "web.1".to_owned(), password }
    }

    #[test]
    fn the_server_s_packets_are_understood_in_every_encoding() {
        let (nonce, payload) = (Value::string("n"), Value::map([("shard_id", Value::Integer(1))]));
        let target = Value::map([("application", Value::string("a"))]);
        let refusal = Refusal::no_route_of_message("SEND", Value::Null, nonce.clone(), Value::Null, target.clone());
        let refused = Refused { error: "no_route".to_owned(), nonce: nonce.clone(), target };
        let hello = Heard::Hello { interval: Some(Duration::from_millis(45_000)) };
        let message = |broadcast| Outgoing::message(broadcast, nonce.clone(), payload.clone(), None);
        let heard = Heard::Message(Message { nonce: nonce.clone(), payload: payload.clone() });
        for encoding in ENCODINGS {
            for (said, heard) in [
                (Outgoing::Hello { heartbeat_interval: 45_000 }, hello.clone()),
                (Outgoing::Ready { client: ClientId::new("c"), restricted: true }, Heard::Ready { restricted: true }),
                (Outgoing::Invalid(refusal.clone()), Heard::Invalid(refused.clone())),
                (message(false), heard.clone()),
                (message(true), Heard::Other),
                (Outgoing::Connected(Application::new("a")), Heard::Other),
                (Outgoing::HeartbeatAck(ClientId::new("c")), Heard::HeartbeatAck),
                (Outgoing::Goodbye, Heard::Goodbye),
                (
                    Outgoing::Error(Refusal::new("heartbeat took too long")),
                    Heard::Error("heartbeat took too long".to_owned()),
                ),
            ] {
                let mut frame = Vec::new();
                said.write(encoding, 1, &mut frame);
                assert_eq!(Heard::read(encoding, FrameKind::of(encoding), &frame), Ok(heard), "{encoding:?}");
            }
        }
    }

    #[test]
    fn what_is_said_is_understood_by_a_server_in_every_encoding() {
        let metadata = Value::map([(
            "shard_count",
            Value::map([("type", Value::string("integer")), ("value", Value::Integer(4))]),
        )]);
        for encoding in ENCODINGS {
            let read = |frame: &[u8]| Packet::read(encoding, FrameKind::of(encoding), frame).expect("a packet");
            let identify = read(&identify(encoding, &who(), &metadata)).identify().expect("an identify");
            assert_eq!(identify.key, ClientKey::new("bot", "web.1"));
            assert_eq!(identify.auth, Auth::Password(Secret::new("hunter2")));
            assert!(identify.metadata.is_ok_and(|changes| changes != Default::default()));
            let open = Identity { password: None, ..who() };
            let identify = read(&super::identify(encoding, &open, &Value::Null)).identify().expect("an identify");
            assert_eq!(identify.auth, Auth::Absent);
            assert_eq!(read(&heartbeat(encoding, &open)).op, Op::Heartbeat);
            let dispatch = read(&dispatch(encoding, "UPDATE_METADATA", &Term::Value(&metadata)));
            assert!(dispatch.dispatch(4).is_ok());
        }
    }

    #[test]
    fn who_was_only_not_found_is_told_from_what_is_wrong() {
        let is =
            |error: &str| Refused { error: error.to_owned(), nonce: Value::Null, target: Value::Null }.is_no_route();
        assert!(is("no_route") && is("no nodes match query for query %{}"));
        assert!(!is("invalid dispatch payload"));
    }

    #[test]
    fn what_a_server_could_not_keep_is_known_by_its_nonce_too() {
        let info = Value::map([("nonce", Value::string("n")), ("reason", Value::string("too many"))]);
        let mut frame = Vec::new();
        Outgoing::Invalid(Refusal::with("message not kept", info)).write(Encoding::Json, 1, &mut frame);
        let Ok(Heard::Invalid(refused)) = Heard::read(Encoding::Json, FrameKind::Text, &frame) else {
            panic!("it is a refusal")
        };
        assert!(refused.is_not_kept() && refused.nonce == Value::string("n"));
    }
}
