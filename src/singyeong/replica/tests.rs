use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use super::voice::MOST_BYTES;
use super::*;
use crate::encoding::{BigInteger, Encoding, MOST_DEPTH, Map, Value};
use crate::singyeong::client::Kind;
use crate::singyeong::metadata::{Changes, Metadata};
use crate::singyeong::packet::dispatch::QueueName;

fn node(name: &str) -> NodeId {
    NodeId::try_from(name.to_owned()).expect("a node's id")
}

fn client(at: &str, id: &str) -> Client {
    Client {
        key: ClientKey::new("app", id),
        node: node(at),
        since: 1,
        kind: Kind::Websocket,
        restricted: false,
        encoding: Encoding::Json,
        ip: None,
        namespace: Value::Null.into(),
        receives_client_updates: false,
        last_heartbeat: 2,
        queues: [].into(),
        metadata: Metadata::default(),
    }
}

fn metadata(key: &str, of: &str, value: Value) -> Metadata {
    let entry = Value::map([("type", Value::string(of)), ("value", value)]);
    let mut metadata = Metadata::default();
    metadata.merge(Changes::read(&Value::map([(key, entry)])).expect("of this type"));
    metadata
}

/// A process with its clients.
struct Process {
    replica: Replica,
    own: Clients,
    now: Instant,
}

#[derive(Default)]
struct Clients(BTreeMap<ClientKey, Client>);

impl Own for Clients {
    fn get(&self, key: &ClientKey) -> Option<&Client> {
        self.0.get(key)
    }

    fn after(&self, key: Option<&ClientKey>) -> Option<&Client> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range::<ClientKey, _>((from, Bound::Unbounded)).next().map(|(_, client)| client)
    }
}

impl Process {
    fn new(name: &str) -> Self {
        Self { replica: Replica::new(node(name)), own: Clients::default(), now: Instant::now() }
    }

    fn put(&mut self, client: Client) {
        self.replica.changed(&client.key);
        self.own.0.insert(client.key.clone(), client);
    }

    fn remove(&mut self, id: &str) {
        let key = ClientKey::new("app", id);
        self.replica.changed(&key);
        self.own.0.remove(&key);
    }

    fn after(&mut self, milliseconds: u64) -> &mut Self {
        self.now += Duration::from_millis(milliseconds);
        self
    }

    fn says(&mut self) -> Option<Vec<u8>> {
        self.replica.poll(self.now, &self.own)
    }

    fn says_all(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.says()).collect()
    }

    fn hears(&mut self, messages: &[Vec<u8>]) -> Vec<Change> {
        messages.iter().flat_map(|message| self.replica.hear(message, self.now)).collect()
    }
}

fn text(message: Option<Vec<u8>>) -> String {
    String::from_utf8(message.expect("something is said")).expect("JSON is text")
}

/// What of `"kind"` is said.
fn kinds(messages: &[Vec<u8>]) -> Vec<String> {
    let kind = |message: &Vec<u8>| {
        let message: serde_json::Value = serde_json::from_slice(message).expect("JSON");
        let says = message["says"].as_object().expect("what is said");
        says.keys().next().expect("one").clone()
    };
    messages.iter().map(kind).collect()
}

#[test]
fn the_messages_have_this_form() {
    let (mut a, mut b) = (Process::new("a"), Process::new("b"));
    let mut full = client("a", "1");
    full.restricted = true;
    full.receives_client_updates = true;
    full.ip = Some("127.0.0.1:80".into());
    full.queues = [QueueName("jobs".into())].into();
    full.metadata = metadata("load", "float", Value::Float(0.5));
    a.put(full);
    a.replica.joined();
    assert_eq!(text(a.says()), r#"{"version":1,"node":"a","number":0,"says":{"hello":{"heard":{}}}}"#);
    assert_eq!(
        text(a.says()),
        r#"{"version":1,"node":"a","number":1,"says":{"news":{"clients":[{"application":"app","client":"1","since":1,"restricted":true,"encoding":"json","ip":"127.0.0.1:80","namespace":null,"updates":true,"heartbeat":2,"queues":["jobs"],"metadata":{"load":["float","~f0.5"]}}]}}}"#
    );
    a.remove("1");
    let gone = a.after(100).says();
    b.hears(std::slice::from_ref(gone.as_ref().expect("something")));
    assert_eq!(text(gone), r#"{"version":1,"node":"a","number":2,"says":{"news":{"gone":[["app","1"]]}}}"#);
    assert_eq!(text(b.says()), r#"{"version":1,"node":"b","number":0,"says":{"want":{"of":"a","heard":2}}}"#);
    a.hears(&[br#"{"version":1,"node":"b","number":0,"says":{"want":{"of":"a","heard":2}}}"#.to_vec()]);
    assert_eq!(
        text(a.says()),
        r#"{"version":1,"node":"a","number":3,"says":{"snapshot":{"begins":true,"ends":true,"clients":[]}}}"#
    );
    assert_eq!(text(Some(a.replica.farewell())), r#"{"version":1,"node":"a","number":4,"says":{"goodbye":{}}}"#);
}

#[test]
fn a_client_is_told_exactly_however_strange_and_deep_its_values() {
    let deep = |levels: usize| (0..levels).fold(Value::Float(0.1), |value, _| Value::List([value].into()));
    let mut strange = client("a", "~\"\u{0}");
    strange.kind = Kind::Gateway;
    strange.encoding = Encoding::Etf;
    // As deep as a packet can carry them, which is itself counted.
    strange.namespace = deep(MOST_DEPTH - 2).into();
    strange.metadata = metadata("deep", "list", deep(MOST_DEPTH - 4));
    let map =
        Map::from([("~", Value::Bytes([0, 255].into())), ("$", Value::Float(-0.0)), ("~f", Value::string("~f1"))]);
    let big = BigInteger { negative: true, magnitude: [1; 9].into() };
    for (key, of, value) in [
        ("map", "map", Value::Map(map)),
        ("big", "integer", Value::Big(Box::new(big))),
        ("whole", "float", Value::Float(1.0)),
        ("version", "version", Value::string("1.0.0-rc.1")),
    ] {
        let entry = Value::map([("type", Value::string(of)), ("value", value)]);
        strange.metadata.merge(Changes::read(&Value::map([(key, entry)])).expect("of this type"));
    }
    let (mut a, mut b) = (Process::new("a"), Process::new("b"));
    a.put(strange.clone());
    assert_eq!(b.hears(&a.says_all()), [Change::Put(strange)]);
}

#[test]
fn what_changes_often_is_told_once_and_not_before_a_pause() {
    let (mut a, mut b) = (Process::new("a"), Process::new("b"));
    a.put(client("a", "1"));
    let first = a.says_all();
    assert_eq!(first.len(), 1);
    for since in 2..10 {
        a.put(Client { since, ..client("a", "1") });
        assert_eq!(a.after(1).says(), None);
    }
    assert_eq!(a.replica.deadline(), Some(a.now + Duration::from_millis(50 - 8)));
    let later = a.after(42).says_all();
    b.hears(&first);
    assert_eq!(b.hears(&later), [Change::Put(Client { since: 9, ..client("a", "1") })]);
}

#[test]
fn heartbeats_are_told_together_every_five_seconds() {
    let (mut a, mut b) = (Process::new("a"), Process::new("b"));
    for id in ["1", "2", "3"] {
        a.put(client("a", id));
    }
    b.hears(&a.says_all());
    for id in ["1", "2", "3"] {
        a.own.0.get_mut(&ClientKey::new("app", id)).expect("it is there").last_heartbeat = 7;
        a.replica.beat(&ClientKey::new("app", id));
    }
    // Its record has the heartbeat.
    a.replica.changed(&ClientKey::new("app", "2"));
    b.hears(&a.after(50).says_all());
    assert_eq!(a.after(4900).says(), None);
    let beat = |id| Change::Heartbeat(node("a"), ClientKey::new("app", id), 7);
    assert_eq!(b.hears(&a.after(50).says_all()), [beat("1"), beat("3")]);
    // Nothing is said, too: who missed something sees it by the number.
    assert_eq!(text(a.after(5000).says()), r#"{"version":1,"node":"a","number":4,"says":{"news":{}}}"#);
}

#[test]
fn messages_are_bounded_and_who_is_larger_goes_alone() {
    let (mut a, mut b) = (Process::new("a"), Process::new("b"));
    let large =
        |id: &str, bytes: usize| Client { namespace: Value::string(&"x".repeat(bytes)).into(), ..client("a", id) };
    for n in 0..1000 {
        a.put(large(&format!("{n:04}"), 200));
    }
    a.put(large("huge", 2 * MOST_BYTES));
    a.put(large("last", 1));
    let messages = a.says_all();
    let (huge, bounded): (Vec<_>, Vec<_>) = messages.iter().partition(|message| message.len() > MOST_BYTES + 200);
    assert_eq!(huge.len(), 1);
    assert!(bounded.len() < 10, "{}", bounded.len());
    assert_eq!(b.hears(&messages).len(), 1002);
    a.replica.hear(br#"{"version":1,"node":"c","number":0,"says":{"hello":{"heard":{}}}}"#, a.now);
    let snapshot = a.says_all();
    assert_eq!(snapshot.iter().filter(|message| message.len() > MOST_BYTES + 200).count(), 1);
    assert_eq!(Process::new("c").hears(&snapshot).len(), 1003, "all of them, and that there is no other");
    for id in 0..1000 {
        a.remove(&format!("{id:04}"));
    }
    for message in a.after(100).says_all() {
        assert!(message.len() <= MOST_BYTES);
    }
}

#[test]
fn news_and_snapshot_take_turns() {
    let mut a = Process::new("a");
    let large = |id: &str| Client { namespace: Value::string(&"x".repeat(MOST_BYTES)).into(), ..client("a", id) };
    for id in ["1", "2", "3"] {
        a.put(large(id));
    }
    a.says_all();
    a.replica.hear(br#"{"version":1,"node":"c","number":0,"says":{"hello":{"heard":{}}}}"#, a.now);
    for id in ["1", "2", "3"] {
        a.replica.changed(&ClientKey::new("app", id));
    }
    let messages = a.after(50).says_all();
    assert_eq!(kinds(&messages), ["snapshot", "news", "snapshot", "news", "snapshot", "news"]);
}

#[test]
fn a_newcomer_gets_a_snapshot_and_who_missed_nothing_does_not() {
    let (mut a, mut b) = (Process::new("a"), Process::new("b"));
    a.put(client("a", "1"));
    let before = a.says_all();
    b.replica.joined();
    a.hears(&b.says_all());
    let snapshot = a.says_all();
    assert_eq!(kinds(&snapshot), ["snapshot"]);
    let only = Change::Only(node("a"), [ClientKey::new("app", "1")].into());
    assert_eq!(b.hears(&snapshot), [Change::Found(client("a", "1")), only]);
    // Cut off and back, it has heard all there is; the next time it has not.
    b.replica.joined();
    a.hears(&b.says_all());
    assert_eq!(a.says_all(), [] as [Vec<u8>; 0]);
    a.remove("1");
    let missed = a.after(100).says_all();
    b.replica.joined();
    a.hears(&b.says_all());
    assert_eq!(b.hears(&a.says_all()), [Change::Only(node("a"), HashSet::new())]);
    // What comes late says nothing any more.
    assert_eq!((b.hears(&before), b.hears(&missed)), (vec![], vec![]));
}

#[test]
fn what_a_snapshot_tells_is_new_once_those_before_us_have_told_of_their_clients() {
    let (mut a, mut b) = (Process::new("a"), Process::new("b"));
    a.put(client("a", "1"));
    a.says_all();
    b.replica.introduced();
    b.replica.joined();
    a.hears(&b.says_all());
    let only = Change::Only(node("a"), [ClientKey::new("app", "1")].into());
    assert_eq!(b.hears(&a.says_all()), [Change::Put(client("a", "1")), only]);
}

#[test]
fn who_misses_something_asks_until_it_gets_a_snapshot_and_many_get_the_same() {
    let mut a = Process::new("a");
    let mut others = [Process::new("b"), Process::new("c")];
    a.put(client("a", "1"));
    let _lost = a.says_all();
    a.put(client("a", "2"));
    let heard = a.after(100).says_all();
    for other in &mut others {
        assert_eq!(other.hears(&heard), [Change::Found(client("a", "2"))]);
        let (asked, again) = (other.says_all(), other.after(1999).says_all());
        assert_eq!((kinds(&asked), kinds(&again)), (vec!["want".to_owned()], vec![]));
        assert_eq!(kinds(&other.after(1).says_all()), ["want"]);
        a.hears(&asked);
    }
    let snapshot = a.says_all();
    assert_eq!(kinds(&snapshot), ["snapshot"]);
    for other in &mut others {
        // On its way already, it need not be said again.
        a.hears(&[other.after(2000).says().expect("it asks again")]);
        assert_eq!(other.hears(&snapshot).len(), 3);
        // It asks no more; that it lives is all that it has to say.
        assert_eq!(kinds(&other.after(2000).says_all()), ["news"]);
    }
    assert_eq!(a.says_all(), [] as [Vec<u8>; 0]);
}

#[test]
fn our_own_words_and_those_of_others_that_we_cannot_read_change_nothing() {
    let (mut a, mut b) = (Process::new("a"), Process::new("b"));
    a.put(client("a", "1"));
    let said = a.says_all();
    assert_eq!(a.hears(&said), []);
    let later = br#"{"version":2,"node":"a","number":1,"says":{"riddle":[]}}"#.to_vec();
    let as_now = br#"{"version":2,"node":"a","number":1,"says":{"goodbye":{}}}"#.to_vec();
    assert_eq!(b.hears(&[later, as_now, b"{".to_vec(), b"\xff".to_vec(), b"[]".to_vec()]), []);
    assert!(!b.replica.knows(&node("a")));
    // One client that cannot be read does not hide the others; what is not known is let pass.
    let strange = br#"{"version":1,"node":"a","number":1,"new":1,"says":{"news":{"clients":[
        {"application":"app","client":"0","since":1,"encoding":"morse","namespace":null,"heartbeat":2,"queues":[],"metadata":{}},
        {"application":"app","client":"1","since":1,"encoding":"json","namespace":null,"heartbeat":2,"queues":[],"metadata":{},"new":[]}
    ]}}}"#;
    assert_eq!(b.hears(&[strange.to_vec()]), [Change::Put(client("a", "1"))]);
}

#[test]
fn who_says_goodbye_or_is_found_gone_is_gone_once() {
    let (mut a, mut b) = (Process::new("a"), Process::new("b"));
    a.put(client("a", "1"));
    b.hears(&a.says_all());
    assert!(b.replica.knows(&node("a")));
    assert_eq!(b.hears(&[a.replica.farewell()]), [Change::Left(node("a"))]);
    assert!(!b.replica.knows(&node("a")));
    assert_eq!(b.replica.gone(&node("a")), None);
}
