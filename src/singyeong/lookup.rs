//! Who there is, and whom a target means: for people who look, by the page.
//!
//! Nobody waits for it: it goes through many clients a few at a time, and no message goes this way.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::client::{Client, Kind};
use super::hub::Hub;
use super::ids::ClientKey;
use super::query::Query;
use super::server::listing;
use crate::encoding::{Encoding, Map, Value, json, write};
use crate::seen::clients::{ClientReport, ClientsAnswer, ClientsQuestion, Nerve};

/// Bytes of metadata that are shown of one client, about as JSON writes them.
const MOST_METADATA: usize = 2 << 10;

const OPTIC_ITSELF: &str = "it is Optic itself: only a target with its application means it";

/// See the module.
#[derive(Debug)]
pub struct Lookup {
    hub: Arc<Hub>,
    most_depth: usize,
}

impl Nerve for Lookup {
    fn answer(&self, question: ClientsQuestion) -> BoxFuture<'static, Option<ClientsAnswer>> {
        let (hub, most_depth) = (Arc::clone(&self.hub), self.most_depth);
        Box::pin(async move { Some(answer(hub.everybody(), &question, most_depth).await) })
    }
}

impl Lookup {
    /// Among these; targets may be so deep.
    pub fn new(hub: Arc<Hub>, most_depth: usize) -> Self {
        Self { hub, most_depth }
    }
}

async fn answer(everybody: Vec<Arc<Client>>, question: &ClientsQuestion, most_depth: usize) -> ClientsAnswer {
    let limit = usize::try_from(question.limit).unwrap_or(usize::MAX);
    let total = everybody.len() as u64;
    let Some(target) = &question.target else {
        let clients = reports(everybody.iter().take(limit).map(|client| (client, true, None))).await;
        return ClientsAnswer { total, matching: total, clients, ..ClientsAnswer::default() };
    };
    let query = match compiled(target, most_depth) {
        Ok(query) => query,
        Err(why) => {
            let clients = reports(everybody.iter().take(limit).map(|client| (client, false, None))).await;
            return ClientsAnswer { total, invalid: Some(why), clients, ..ClientsAnswer::default() };
        }
    };
    let judged = Judged::of(&everybody, &query).await;
    let (meant, others): (Vec<_>, Vec<_>) = everybody.iter().partition(|client| judged.means(client));
    let meant = meant.into_iter().map(|client| (client, true, None));
    let others = others.into_iter().map(|client| (client, false, judged.why_not(client)));
    let matching = judged.meant.len();
    let clients = reports(meant.chain(others).take(limit)).await;
    let send = Some(judged.send(&query));
    ClientsAnswer { total, matching: matching as u64, invalid: None, send, clients }
}

fn compiled(target: &serde_json::Value, most_depth: usize) -> Result<Query, String> {
    let target = json::read(target.to_string().as_bytes()).map_err(|why| why.to_string())?;
    Query::compile(&target, most_depth).map_err(|why| why.to_string())
}

/// Whom a target means, as the router has it.
struct Judged<'a> {
    query: &'a Query,
    meant: HashSet<&'a ClientKey>,
    /// One that the selector left, if there is one.
    chosen: Option<&'a Arc<Client>>,
    /// Nobody matched, and it was asked again without operators.
    is_asked_again: bool,
}

impl<'a> Judged<'a> {
    async fn of(everybody: &'a [Arc<Client>], query: &'a Query) -> Self {
        let mut found = chosen_of(everybody, |client| query.admits(client)).await;
        query.select(&mut found);
        let chosen = found.first().copied().filter(|_| query.has_selector());
        let is_asked_again = found.is_empty() && query.asks_again();
        if is_asked_again {
            found = chosen_of(everybody, |client| is_in_scope(query, client)).await;
        }
        let meant = found.into_iter().filter(|client| is_reached(query, client)).map(|client| &client.key).collect();
        Self { query, meant, chosen, is_asked_again }
    }

    fn means(&self, client: &Client) -> bool {
        self.meant.contains(&client.key)
    }

    /// Of one that it does not mean.
    fn why_not(&self, client: &Client) -> Option<String> {
        if !is_reached(self.query, client) {
            return Some(OPTIC_ITSELF.to_owned());
        }
        self.query.explain(client).or_else(|| self.query.explain_selection(client, self.chosen))
    }

    /// What a SEND with it would do.
    fn send(&self, query: &Query) -> String {
        let again =
            if self.is_asked_again { " without its ops, since nobody matches them and it is optional" } else { "" };
        match self.meant.len() {
            0 if query.is_droppable() => {
                "is dropped: nobody matches, and nobody is told, since it is droppable".to_owned()
            }
            0 => "is refused: nobody matches".to_owned(),
            1 => format!("goes to 1 client{again}"),
            count if query.key().is_some() => {
                format!("goes to the same one of {count} clients each time, by its key{again}")
            }
            count => format!("goes to one of {count} clients{again}"),
        }
    }
}

/// Goes through all.
async fn chosen_of(everybody: &[Arc<Client>], is_chosen: impl Fn(&Client) -> bool) -> Vec<&Arc<Client>> {
    let mut chosen = Vec::new();
    let mut at = 0;
    listing::each(everybody, |client| {
        if is_chosen(client) {
            chosen.push(&everybody[at]);
        }
        at += 1;
    })
    .await;
    chosen
}

/// Whether it is of the query's application and may be found, whatever it says of itself.
fn is_in_scope(query: &Query, client: &Client) -> bool {
    let is_of_application =
        query.application().is_none_or(|application| application == client.key.application.as_str());
    !query.is_for_nobody() && is_of_application && query.is_visible(client.restricted)
}

/// Optic's own client gets messages only where its application is asked for.
fn is_reached(query: &Query, client: &Client) -> bool {
    client.kind == Kind::Websocket || query.application() == Some(client.key.application.as_str())
}

/// A few at a time, as they are gone through.
async fn reports<'a>(clients: impl Iterator<Item = (&'a Arc<Client>, bool, Option<String>)>) -> Vec<ClientReport> {
    /// About as many bytes of metadata are written at a time.
    const A_TURN: usize = 256 << 10;
    let mut reports = Vec::new();
    let mut written = 0;
    for (client, matches, why_not) in clients {
        reports.push(report(client, matches, why_not));
        written += MOST_METADATA.max(client.metadata.size());
        if written >= A_TURN {
            written = 0;
            tokio::task::yield_now().await;
        }
    }
    reports
}

fn report(client: &Client, matches: bool, why_not: Option<String>) -> ClientReport {
    let text = metadata(client);
    // Numbers beyond what is read here are shown as nothing.
    let read = if text.len() > MOST_METADATA { None } else { serde_json::from_str(&text).ok() };
    ClientReport {
        application: client.key.application.as_str().to_owned(),
        client: client.key.client.as_str().to_owned(),
        node: client.node.to_string(),
        restricted: client.restricted,
        encoding: client.encoding.name().to_owned(),
        since: client.since,
        last_heartbeat: client.last_heartbeat,
        queues: client.queues.iter().map(|queue| queue.0.to_string()).collect(),
        metadata: read.unwrap_or_default(),
        metadata_text: cut(text),
        matches,
        why_not,
    }
}

/// As JSON writes it.
fn metadata(client: &Client) -> String {
    let entries = client.metadata.iter().map(|(key, _, value)| (key.into(), value.clone())).collect();
    let mut text = Vec::new();
    write(Encoding::Json, &Value::Map(Map::new(entries)), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn cut(mut text: String) -> String {
    if text.len() > MOST_METADATA {
        let end = (0..=MOST_METADATA).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::cluster::node::NodeId;
    use crate::singyeong::metadata::{Changes, Metadata};
    use crate::singyeong::registry::Registry;

    fn client(application: &str, id: &str, load: i64) -> Client {
        let mut metadata = Metadata::default();
        let load = Value::map([("type", Value::string("integer")), ("value", Value::Integer(load))]);
        metadata.merge(Changes::read(&Value::map([("load", load)])).expect("metadata"));
        Client {
            key: ClientKey::new(application, id),
            node: NodeId::of_run("test", 1),
            since: 1,
            kind: Kind::Websocket,
            restricted: false,
            encoding: Encoding::Json,
            ip: None,
            namespace: Value::Null.into(),
            receives_client_updates: false,
            last_heartbeat: 2,
            queues: BTreeSet::new(),
            metadata,
        }
    }

    fn everybody() -> Registry {
        let mut registry = Registry::default();
        for (application, id, load) in [("music", "a", 1), ("music", "b", 2), ("music", "c", 3), ("web", "a", 1)] {
            registry.put(client(application, id, load));
        }
        registry.put(Client { restricted: true, ..client("music", "r", 0) });
        registry.put(Client { kind: Kind::Gateway, ..client("gateway", "optic", 0) });
        registry
    }

    async fn ask(target: serde_json::Value, limit: u32) -> ClientsAnswer {
        let target = (!target.is_null()).then_some(target);
        let registry = everybody();
        answer(registry.iter().cloned().collect(), &ClientsQuestion { target, limit }, 8).await
    }

    fn ids(answer: &ClientsAnswer) -> Vec<String> {
        let meant = answer.clients.iter().filter(|client| client.matches);
        meant.map(|client| format!("{} {}", client.application, client.client)).collect()
    }

    fn why_not(answer: &ClientsAnswer, id: &str) -> String {
        let client = answer.clients.iter().find(|client| client.client == id && !client.matches).expect("not meant");
        client.why_not.clone().expect("a reason")
    }

    #[tokio::test]
    async fn without_a_target_all_are_told() {
        let all = ask(serde_json::Value::Null, 10).await;
        assert_eq!((all.total, all.matching, all.clients.len(), &all.send), (6, 6, 6, &None));
        assert_eq!(all.clients[1].metadata, json!({"load": 1}));
        assert_eq!(all.clients[1].metadata_text, r#"{"load":1}"#);
        assert_eq!(ask(serde_json::Value::Null, 2).await.clients.len(), 2);
    }

    /// A browser's numbers are exact up to 2^53, and ids are larger.
    #[tokio::test]
    async fn large_numbers_are_told_and_asked_for_exactly() {
        let id = (1_i64 << 60) + 1;
        let mut registry = Registry::default();
        registry.put(client("music", "a", id));
        registry.put(client("music", "b", id + 1));
        let everybody: Vec<_> = registry.iter().cloned().collect();
        let target: serde_json::Value =
            serde_json::from_str(&format!(r#"{{"ops":[{{"path":"/load","op":"$eq","to":{{"value":{id}}}}}]}}"#))
                .expect("JSON");
        let told = answer(everybody, &ClientsQuestion { target: Some(target), limit: 10 }, 8).await;
        assert_eq!(ids(&told), ["music a"]);
        assert_eq!(told.clients[0].metadata_text, format!(r#"{{"load":{id}}}"#));
    }

    #[test]
    fn long_metadata_is_cut() {
        let long = cut("é".repeat(MOST_METADATA));
        assert_eq!((long.chars().count(), long.ends_with("é…")), (MOST_METADATA / 2 + 1, true));
        assert_eq!(cut("{}".to_owned()), "{}");
    }

    #[tokio::test]
    async fn those_who_match_come_first_and_the_others_say_why_not() {
        let ops = json!([{"path": "/load", "op": "$gt", "to": {"value": 1}}]);
        let answer = ask(json!({"application": "music", "ops": ops}), 10).await;
        assert_eq!((answer.total, answer.matching), (6, 2));
        assert_eq!(answer.send.as_deref(), Some("goes to one of 2 clients"));
        let order: Vec<bool> = answer.clients.iter().map(|client| client.matches).collect();
        assert_eq!(order, [true, true, false, false, false, false]);
        assert_eq!(ids(&answer), ["music b", "music c"]);
        assert_eq!(why_not(&answer, "a"), "/load $gt 1: it has 1");
        assert!(why_not(&answer, "r").starts_with("it is restricted"));
        assert_eq!(why_not(&answer, "optic"), OPTIC_ITSELF);
        assert_eq!(ask(json!({"application": "gateway"}), 10).await.matching, 1);
    }

    #[tokio::test]
    async fn what_a_send_does_is_told() {
        let none = json!([{"path": "/load", "op": "$gt", "to": {"value": 9}}]);
        for (target, send) in [
            (json!({"application": "music"}), "goes to one of 3 clients"),
            (json!({"application": "web"}), "goes to 1 client"),
            (json!({"application": "music", "key": "k"}), "goes to the same one of 3 clients each time, by its key"),
            (json!({"application": "music", "ops": none}), "is refused: nobody matches"),
            (json!({"application": "nobody"}), "is refused: nobody matches"),
            (json!({"application": ["music"], "optional": true, "ops": none}), "is refused: nobody matches"),
            (
                json!({"application": "music", "ops": none, "droppable": true}),
                "is dropped: nobody matches, and nobody is told, since it is droppable",
            ),
            (
                json!({"application": "music", "ops": none, "optional": true}),
                "goes to one of 3 clients without its ops, since nobody matches them and it is optional",
            ),
        ] {
            assert_eq!(ask(target.clone(), 10).await.send.as_deref(), Some(send), "{target}");
        }
    }

    #[tokio::test]
    async fn a_selector_chooses_among_those_who_match() {
        let answer = ask(json!({"application": "music", "selector": {"$min": "load"}}), 10).await;
        assert_eq!(ids(&answer), ["music a"]);
        let why = "it matches, but $min of \"load\" chooses another: it has 2, and who is chosen 1";
        assert_eq!(why_not(&answer, "b"), why);
    }

    /// What is shown is what the registry would find.
    #[tokio::test]
    async fn it_is_judged_as_messages_are() {
        for target in [
            json!({}),
            json!({"restricted": true}),
            json!({"application": "music", "selector": {"$max": "load"}}),
            json!({"application": "web", "optional": true, "ops": [{"load": {"$eq": 7}}]}),
            json!({"ops": [{"load": {"$lt": 3}}], "selector": {"$avg": "load"}}),
        ] {
            let query = compiled(&target, 8).expect("a query");
            let mut found: Vec<String> = everybody()
                .all(&query)
                .iter()
                .filter(|client| client.kind == Kind::Websocket)
                .map(|client| format!("{} {}", client.key.application, client.key.client))
                .collect();
            found.sort();
            assert_eq!(ids(&ask(target.clone(), 10).await), found, "{target}");
        }
    }

    #[tokio::test]
    async fn a_target_that_is_none_says_why() {
        let answer = ask(json!({"ops": [{"load": {"$about": 1}}]}), 10).await;
        assert_eq!(answer.invalid.as_deref(), Some("there is no operator $about"));
        let answer = ask(json!({"ops": [{"path": "/load", "op": "x".repeat(99), "to": {"value": 1}}]}), 10).await;
        assert_eq!(answer.invalid, Some(format!("there is no operator {}…", "x".repeat(40))));
        assert_eq!((answer.total, answer.matching, answer.clients.len(), answer.send), (6, 0, 6, None));
        assert!(answer.clients.iter().all(|client| !client.matches && client.why_not.is_none()));
    }
}
