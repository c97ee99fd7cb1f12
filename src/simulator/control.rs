//! The control interface's words: `POST /control/<verb>?name=value`, read into a command. No socket here.

use std::collections::HashMap;
use std::str::FromStr;

/// What to do. `shard` is `None` for all.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Which shard's connections or sessions.
    pub shard: Option<u32>,
    /// What with them.
    pub verb: Verb,
}

/// Everything that can be asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// To connections.
    Connection(Misbehaviour),
    /// Events with a name.
    Event {
        /// `t`.
        name: String,
        /// How many.
        count: u64,
    },
    /// Begin traffic.
    Start {
        /// Events a second over all; `None`: as set.
        rate: Option<f64>,
        /// Events a session; `None`: as set.
        events: Option<u64>,
    },
    /// End traffic.
    Stop,
    /// Sessions forgotten.
    Forget,
    /// The next resumes get op 9 false.
    RefuseNextResumes(u64),
    /// The next connections get op 7 in place of Hello.
    HelloReconnect(u64),
}

/// What a connection does.
#[derive(Clone, Debug, PartialEq)]
pub enum Misbehaviour {
    /// A close frame; `None`: without a code.
    Close(Option<u16>),
    /// TCP reset.
    Drop,
    /// TCP's end without a close frame.
    Eof,
    /// Silence for so many milliseconds (0: for ever); deaf: it does not read either.
    Stall {
        /// How long.
        ms: u64,
        /// Whether reading stops too.
        deaf: bool,
    },
    /// A packet that is no event.
    Packet(String),
    /// A websocket ping.
    Ping,
    /// Bytes that mean nothing.
    Garbage(Garbage),
    /// So many MiB in few bytes.
    Bomb(u32),
}

/// At which level it is garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// No websocket frame.
    Frame,
    /// No compressed data.
    Deflate,
    /// No JSON.
    Json,
    /// No UTF-8.
    Utf8,
}

/// Why a control request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No such verb.
    #[error("no control verb {0:?}; there are {VERBS}")]
    UnknownVerb(String),
    /// A parameter that the verb needs.
    #[error("{verb} needs {name}=")]
    Missing {
        /// The verb.
        verb: String,
        /// The parameter.
        name: &'static str,
    },
    /// A value that cannot be.
    #[error("{name}={value:?} is not {expected}")]
    Invalid {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// A parameter that the verb does not have.
    #[error("{verb} has no parameter {name:?}")]
    UnknownParameter {
        /// The verb.
        verb: String,
        /// The parameter.
        name: String,
    },
    /// An event's body that is not JSON.
    #[error("the body is not JSON, but an event's d must be")]
    Body,
    /// No connection to do it to.
    #[error("no connection of that shard is open")]
    NoConnection,
    /// No session to do it to.
    #[error("there is no session of that shard")]
    NoSession,
}

/// Every verb, for people.
pub const VERBS: &str = "close, drop, eof, stall, reconnect, invalid, heartbeat, ping, garbage, bomb, unknown, event, \
                         start, stop, forget, refuse-next-resumes, hello-reconnect, and by GET stats, sessions, shards, commands";

impl Request {
    /// Reads a verb and a query.
    pub fn parse(verb: &str, query: &str) -> Result<Self, ControlError> {
        let mut values = Values {
            verb: verb.to_owned(),
            values: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        };
        let shard = values.take("shard", "a shard's number")?;
        let connection = Verb::Connection;
        let verb = match verb {
            "close" => {
                let code = values.take("code", "a close code from 1000 to 4999")?;
                if let Some(code) = code
                    && !(1000..5000).contains(&code)
                {
                    return Err(invalid("code", code, "a close code from 1000 to 4999"));
                }
                connection(Misbehaviour::Close(code))
            }
            "drop" => connection(Misbehaviour::Drop),
            "eof" => connection(Misbehaviour::Eof),
            "stall" => connection(Misbehaviour::Stall {
                ms: values.take("ms", "a number of milliseconds")?.unwrap_or(0),
                deaf: values.take("deaf", "true or false")?.unwrap_or(false),
            }),
            "reconnect" => connection(Misbehaviour::Packet(r#"{"t":null,"s":null,"op":7,"d":null}"#.to_owned())),
            "invalid" => {
                let resumable: bool = values.take("resumable", "true or false")?.unwrap_or(false);
                connection(Misbehaviour::Packet(format!(r#"{{"t":null,"s":null,"op":9,"d":{resumable}}}"#)))
            }
            "heartbeat" => connection(Misbehaviour::Packet(r#"{"t":null,"s":null,"op":1,"d":null}"#.to_owned())),
            "ping" => connection(Misbehaviour::Ping),
            "garbage" => {
                let kind: String = values.need("kind", "frame, deflate, json or utf8")?;
                connection(Misbehaviour::Garbage(match kind.as_str() {
                    "frame" => Garbage::Frame,
                    "deflate" => Garbage::Deflate,
                    "json" => Garbage::Json,
                    "utf8" => Garbage::Utf8,
                    _ => return Err(invalid("kind", kind, "frame, deflate, json or utf8")),
                }))
            }
            "bomb" => {
                let size = values.take("mib", "a size from 1 to 4096 MiB")?.unwrap_or(1024);
                if !(1..=4096).contains(&size) {
                    return Err(invalid("mib", size, "a size from 1 to 4096 MiB"));
                }
                connection(Misbehaviour::Bomb(size))
            }
            "unknown" => {
                let kind: String = values.need("kind", "op, event or null")?;
                match kind.as_str() {
                    "op" => connection(Misbehaviour::Packet(
                        r#"{"t":null,"s":null,"op":200,"d":{"hint":"a future opcode"}}"#.to_owned(),
                    )),
                    "event" => Verb::Event { name: "SIMULATOR_UNKNOWN".to_owned(), count: 1 },
                    "null" => Verb::Event { name: "SIMULATOR_NULL".to_owned(), count: 1 },
                    _ => return Err(invalid("kind", kind, "op, event or null")),
                }
            }
            "event" => Verb::Event {
                name: values.need("name", "an event's name")?,
                count: values.take("count", "a number")?.unwrap_or(1),
            },
            "start" => {
                let rate = values.take("rate", "a number of events a second")?;
                if let Some(rate) = rate
                    && !(f64::is_finite(rate) && rate >= 0.0)
                {
                    return Err(invalid("rate", rate, "a number of events a second"));
                }
                Verb::Start { rate, events: values.take("events", "a number of events a shard")? }
            }
            "stop" => Verb::Stop,
            "forget" => Verb::Forget,
            "refuse-next-resumes" => Verb::RefuseNextResumes(values.take("count", "a number")?.unwrap_or(1)),
            "hello-reconnect" => Verb::HelloReconnect(values.take("count", "a number")?.unwrap_or(1)),
            unknown => return Err(ControlError::UnknownVerb(unknown.to_owned())),
        };
        match values.values.into_keys().next() {
            Some(name) => Err(ControlError::UnknownParameter { verb: values.verb, name }),
            None => Ok(Self { shard, verb }),
        }
    }
}

struct Values {
    verb: String,
    values: HashMap<String, String>,
}

impl Values {
    fn take<T: FromStr>(&mut self, name: &'static str, expected: &'static str) -> Result<Option<T>, ControlError> {
        let Some(value) = self.values.remove(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| ControlError::Invalid { name, value, expected })
    }

    fn need<T: FromStr>(&mut self, name: &'static str, expected: &'static str) -> Result<T, ControlError> {
        let missing = ControlError::Missing { verb: self.verb.clone(), name };
        self.take(name, expected)?.ok_or(missing)
    }
}

fn invalid(name: &'static str, value: impl ToString, expected: &'static str) -> ControlError {
    ControlError::Invalid { name, value: value.to_string(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_verb_with_its_parameters() {
        let request = Request::parse("close", "shard=2&code=4000").expect("valid");
        assert_eq!(request, Request { shard: Some(2), verb: Verb::Connection(Misbehaviour::Close(Some(4000))) });
        let request = Request::parse("start", "rate=5.5").expect("valid");
        assert_eq!(request.verb, Verb::Start { rate: Some(5.5), events: None });
    }

    #[test]
    fn a_wrong_request_gets_a_sentence_that_says_what_is_wrong() {
        for (verb, query, sentence) in [
            ("cloze", "", "no control verb \"cloze\""),
            ("close", "code=7", "code=\"7\" is not a close code"),
            ("close", "shard=x", "shard=\"x\" is not a shard's number"),
            ("close", "cod=4000", "close has no parameter \"cod\""),
            ("event", "", "event needs name="),
            ("garbage", "kind=socks", "kind=\"socks\" is not frame, deflate, json or utf8"),
            ("bomb", "mib=9999999", "mib=\"9999999\" is not a size"),
            ("start", "rate=-1", "rate=\"-1\" is not a number"),
        ] {
            let error = Request::parse(verb, query).expect_err("wrong").to_string();
            assert!(error.starts_with(sentence), "{error}");
        }
    }
}
