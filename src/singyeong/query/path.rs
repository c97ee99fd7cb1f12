//! Where in a client's metadata an operator looks.

use std::cmp::Ordering;

use super::Subject;
use super::term::Term;
use crate::encoding::{MOST_DEPTH, Value};
use crate::singyeong::client::Client;
use crate::singyeong::metadata::version::{self, Version};
use crate::singyeong::metadata::{Hint, Reserved, Type};

/// A path. Every part is taken as it is written: nothing is escaped.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    key: Key,
    /// Below the key.
    rest: Box<[Segment]>,
    hint: Hint,
}

/// A key of the metadata itself.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    Own(Box<str>),
    Reserved(Reserved),
}

#[derive(Clone, Debug, PartialEq)]
struct Segment {
    /// In a map.
    key: Box<str>,
    /// In a list; none if it is no number as lists count.
    index: Option<usize>,
}

/// What is found at a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub term: Term<'a>,
    /// Whether the client said that it is a version.
    pub is_version: bool,
}

impl Path {
    /// Reads `/key/key/...`; none if it does not begin so, or goes deeper than any value does.
    pub fn parse(text: &str) -> Option<Self> {
        let mut segments = text.strip_prefix('/')?.split('/');
        let key = Key::of(segments.next()?);
        if segments.clone().nth(MOST_DEPTH).is_some() {
            return None;
        }
        let segment = |segment: &str| Segment { key: segment.into(), index: index(segment) };
        Some(Self { key, rest: segments.map(segment).collect(), hint: Hint::default() })
    }

    /// A key of the metadata itself, whatever is in its name.
    pub fn of_key(key: &str) -> Self {
        Self { key: Key::of(key), rest: Box::default(), hint: Hint::default() }
    }

    /// As [`parse`](Self::parse) reads it; none if it cannot be written so: its key has a slash.
    pub fn to_text(&self) -> Option<String> {
        let key = self.key();
        if key.contains('/') {
            return None;
        }
        let mut text = format!("/{key}");
        for segment in &self.rest {
            text.push('/');
            text.push_str(&segment.key);
        }
        Some(text)
    }

    /// The key of the metadata itself.
    pub fn key(&self) -> &str {
        match &self.key {
            Key::Own(key) => key,
            Key::Reserved(reserved) => reserved.key(),
        }
    }

    /// What a client has there, if anything.
    #[inline]
    pub fn find<'a>(&self, Subject { metadata, client }: Subject<'a>) -> Option<Found<'a>> {
        let (mut value, mut is_version) = match &self.key {
            Key::Own(key) => {
                let (of, value) = metadata.get_near(key, &self.hint)?;
                (value, of == Type::Version)
            }
            // A namespace may be anything; the others have nothing below them.
            Key::Reserved(Reserved::Namespace) => (&*client.namespace, false),
            Key::Reserved(reserved) => {
                let term = reserved_term(*reserved, client);
                return self.rest.is_empty().then_some(Found { term, is_version: false });
            }
        };
        for segment in &self.rest {
            is_version = false;
            value = match value {
                Value::Map(map) => map.get(&segment.key)?,
                Value::List(values) => values.get(segment.index?)?,
                _ => return None,
            };
        }
        Some(Found { term: value.into(), is_version })
    }
}

impl Found<'_> {
    /// Which is greater; what is said to be a version compares with versions as such.
    #[inline]
    pub fn compare(self, operand: Term<'_>) -> Ordering {
        if self.is_version
            && let (Term::Binary(own), Term::Binary(operand)) = (self.term, operand)
            && let (Ok(own), Ok(operand)) = (std::str::from_utf8(own), std::str::from_utf8(operand))
            && let Some(order) = version::compare(own, operand)
        {
            return order;
        }
        self.term.compare(operand)
    }

    /// The same, with what is known to be a version.
    #[inline]
    pub fn compare_version(self, operand: &Version) -> Ordering {
        if self.is_version
            && let Term::Binary(own) = self.term
            && let Ok(own) = std::str::from_utf8(own)
            && let Some(order) = operand.compare_with(own)
        {
            return order.reverse();
        }
        self.term.compare(operand.as_str().into())
    }
}

impl Key {
    fn of(key: &str) -> Self {
        Reserved::of_key(key).map_or_else(|| Self::Own(key.into()), Self::Reserved)
    }
}

fn reserved_term(reserved: Reserved, client: &Client) -> Term<'_> {
    match reserved {
        Reserved::Ip => client.ip.as_deref().map_or(Term::Null, Term::from),
        Reserved::Restricted => Term::Bool(client.restricted),
        Reserved::Encoding => Term::from(client.encoding.name()),
        Reserved::Namespace => Term::from(&*client.namespace),
        Reserved::LastHeartbeatTime => Term::Integer(i64::try_from(client.last_heartbeat).unwrap_or(i64::MAX)),
        Reserved::ReceiveClientUpdates => Term::Bool(client.receives_client_updates),
    }
}

/// Decimal, without leading zeros and signs.
fn index(segment: &str) -> Option<usize> {
    let canonical =
        segment.bytes().all(|byte| byte.is_ascii_digit()) && (segment.len() == 1 || !segment.starts_with('0'));
    if canonical { segment.parse().ok() } else { None }
}
