//! spec/singyeong.md, "Several processes", "Sending" and "Queues": three Optics are one 신경, and one of them dies.

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use common::{SingyeongBed, SingyeongClient, SingyeongServer, eventually, must};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinSet;

async fn three(bed: &SingyeongBed) -> Vec<SingyeongServer> {
    join_all((0..3).map(|_| bed.start())).await
}

/// A target of one client, by its metadata `name`.
fn named(name: &str) -> Value {
    json!({ "application": "app", "ops": [{ "path": "/name", "op": "$eq", "to": { "value": name } }] })
}

/// Who is called by its metadata as well.
async fn member(address: &str, name: &str) -> SingyeongClient {
    let metadata = json!({ "name": { "type": "string", "value": name } });
    let identify = json!({ "application_id": "app", "client_id": name, "metadata": metadata });
    SingyeongClient::identify_with(address, identify).await.unwrap_or_else(|refusal| panic!("{name}: {refusal}"))
}

fn ids(clients: &[(String, String, Value)]) -> Vec<&str> {
    clients.iter().map(|(_, id, _)| id.as_str()).collect()
}

#[tokio::test]
async fn three_processes_are_one() {
    let bed = SingyeongBed::new();
    let mut servers = three(&bed).await;
    let identify = json!({ "application_id": "watchers", "client_id": "watcher", "receive_client_updates": true });
    let mut watcher = SingyeongClient::identify_with(&servers[1].address, identify).await.expect("it is let in");
    // Of itself it hears, too.
    assert_eq!(watcher.dispatched("CLIENT_CONNECTED").await["payload"], json!({ "app": "watchers" }));
    let mut members = Vec::new();
    for (server, name) in servers.iter().zip(["a", "b", "c"]) {
        members.push(member(&server.address, name).await);
        let connected = watcher.dispatched("CLIENT_CONNECTED").await;
        assert_eq!(connected, json!({ "nonce": null, "payload": { "app": "app" }, "target": null }));
    }
    for asking in &mut members {
        asking.sees("app", "all three", |clients| ids(clients) == ["a", "b", "c"]).await;
        let nodes: BTreeSet<String> = asking.clients_of("app").await.into_iter().map(|(node, ..)| node).collect();
        assert_eq!(nodes.len(), 3);
    }

    // From each to each, and from each to all.
    for (from, sender) in ["a", "b", "c"].into_iter().enumerate() {
        for (to, receiver) in ["a", "b", "c"].into_iter().enumerate() {
            let nonce = format!("{sender} to {receiver}");
            let data = json!({ "target": named(receiver), "nonce": nonce, "payload": { "n": 1 } });
            members[from].dispatch("SEND", data).await;
            let expected = json!({ "nonce": nonce, "payload": { "n": 1 }, "target": null, "sender": sender });
            assert_eq!(members[to].dispatched("SEND").await, expected);
        }
        let data = json!({ "target": { "application": "app" }, "nonce": from, "payload": sender });
        members[from].dispatch("BROADCAST", data).await;
        for receiver in &mut members {
            let expected = json!({ "nonce": from, "payload": sender, "target": null, "sender": sender });
            assert_eq!(receiver.dispatched("BROADCAST").await, expected);
        }
        members[from].dispatch("SEND", json!({ "target": named("nobody"), "nonce": "n", "payload": 1 })).await;
        let refused = must("no_route", members[from].next(|packet| packet["op"] == 3)).await.expect("it goes on");
        assert_eq!(
            (&refused["d"]["error"], &refused["d"]["extra_info"]["d"]["nonce"]),
            (&json!("no_route"), &json!("n"))
        );
    }
    // A selector chooses over all processes.
    for (n, member) in members.iter_mut().enumerate() {
        member.dispatch("UPDATE_METADATA", json!({ "n": { "type": "integer", "value": n } })).await;
        assert!(member.settled().await);
    }
    let has_n = |clients: &[(String, String, Value)]| clients.iter().all(|(.., metadata)| !metadata["n"].is_null());
    members[0].sees("app", "the metadata of all", has_n).await;
    let data =
        json!({ "target": { "application": "app", "selector": { "$max": "n" } }, "nonce": 0, "payload": "most" });
    members[0].dispatch("BROADCAST", data).await;
    assert_eq!(members[2].dispatched("BROADCAST").await["payload"], "most");

    // A queue is one, and a message that only another process's client may have finds it.
    for (to, receiver) in [(2, "c"), (0, "a")] {
        for member in &mut members {
            member.dispatch("QUEUE_REQUEST", json!({ "queue": "jobs" })).await;
            assert!(member.settled().await);
        }
        let data = json!({ "queue": "jobs", "target": named(receiver), "nonce": "q", "payload": receiver });
        members[1].dispatch("QUEUE", data).await;
        assert_eq!(members[1].dispatched("QUEUE_CONFIRM").await, json!({ "queue": "jobs" }));
        let queued = members[to].dispatched("QUEUE").await;
        assert_eq!((&queued["payload"]["payload"], &queued["nonce"]), (&json!(receiver), &json!("q")));
        let ack = json!({ "queue": "jobs", "id": queued["payload"]["id"] });
        members[to].dispatch("QUEUE_ACK", ack).await;
        for member in &mut members {
            member.dispatch("QUEUE_REQUEST_CANCEL", json!({ "queue": "jobs" })).await;
            assert!(member.settled().await);
        }
    }

    // An id is one client's over all processes.
    let same = json!({ "application_id": "app", "client_id": "a" });
    let newcomer = SingyeongClient::identify_with(&servers[2].address, same);
    let refused = members[0].listen_during(newcomer).await.err();
    let expected = json!({ "error": "a: already registered for app app", "extra_info": null });
    assert_eq!(refused, Some(expected));

    // Who comes later learns of those who are there, and of their metadata.
    let joined = bed.start().await;
    let mut late = SingyeongClient::identify(&joined.address, "late", "late").await;
    watcher.dispatched("CLIENT_CONNECTED").await;
    late.sees("app", "those who were there", |clients| ids(clients) == ["a", "b", "c"] && has_n(clients)).await;

    // Who dies is gone everywhere, and those who want to know are told.
    servers.remove(0).kill().await;
    assert_eq!(watcher.dispatched("CLIENT_DISCONNECTED").await["payload"], json!({ "app": "app" }));
    for client in members[1..].iter_mut().chain([&mut late]) {
        client.sees("app", "those who are left", |clients| ids(clients) == ["b", "c"]).await;
    }
    let _again = member(&joined.address, "a").await;
    watcher.dispatched("CLIENT_CONNECTED").await;
    // Who stops in order, too.
    servers.remove(1).stop().await;
    watcher.dispatched("CLIENT_DISCONNECTED").await;
    late.sees("app", "those who are left", |clients| ids(clients) == ["a", "b"]).await;
    assert!(!watcher.heard("CLIENT_DISCONNECTED"), "each is told once");
    joined.stop().await;
    servers.remove(0).stop().await;
}

/// Numbers, and who adds to them.
#[derive(Clone, Default)]
struct Numbers(Arc<Mutex<BTreeSet<u64>>>);

impl Numbers {
    fn extend(&self, numbers: impl IntoIterator<Item = u64>) {
        self.0.lock().expect("not poisoned").extend(numbers);
    }

    fn get(&self) -> BTreeSet<u64> {
        self.0.lock().expect("not poisoned").clone()
    }

    fn len(&self) -> usize {
        self.0.lock().expect("not poisoned").len()
    }
}

/// What a flood has brought about.
#[derive(Clone, Default)]
struct Flood {
    /// Confirmed to who queued them.
    queued: Numbers,
    /// Acknowledged to who sent them, by a heartbeat's answer behind them.
    sent: Numbers,
    /// Worked on.
    done: Numbers,
    /// Received.
    received: Numbers,
}

const FLOOD: u64 = 800;
const AT_ONCE: u64 = 20;

impl Flood {
    /// Queues and sends numbers from `first` on, until there are enough or its connection ends.
    async fn produce(self, address: String, client: String, first: u64) {
        let mut producer = SingyeongClient::identify(&address, "producers", &client).await;
        for begin in (first..first + FLOOD).step_by(AT_ONCE as usize) {
            let numbers = begin..begin + AT_ONCE;
            for n in numbers.clone() {
                let target = json!({ "application": "workers" });
                let queued = json!({ "queue": "jobs", "target": target, "nonce": n, "payload": n });
                let sent = json!({ "target": target, "nonce": n, "payload": n });
                if !producer.dispatch("QUEUE", queued).await || !producer.dispatch("SEND", sent).await {
                    return;
                }
            }
            for n in numbers.clone() {
                let is_confirm = |packet: &Value| packet["t"] == "QUEUE_CONFIRM";
                if must("a confirm", producer.next(is_confirm)).await.is_none() {
                    return;
                }
                self.queued.extend([n]);
            }
            if !producer.settled().await {
                return;
            }
            self.sent.extend(numbers);
            let refused = producer.next_heard(|packet| packet["op"] == 3);
            assert!(refused.is_none(), "somebody is there all the while: {refused:?}");
        }
    }

    /// Works on what is queued, and receives what is sent, until its connection ends.
    async fn work(self, address: String, client: String) {
        let mut worker = SingyeongClient::identify(&address, "workers", &client).await;
        worker.dispatch("QUEUE_REQUEST", json!({ "queue": "jobs" })).await;
        while let Some(packet) = worker.next(|packet| packet["op"] == 4).await {
            let data = &packet["d"];
            if packet["t"] == "SEND" {
                self.received.extend(data["payload"].as_u64());
                continue;
            }
            let number = data["payload"]["payload"].as_u64().expect("a number");
            // A worker that dies here has not worked on it: it comes again.
            let ack = json!({ "queue": "jobs", "id": data["payload"]["id"] });
            if !worker.dispatch("QUEUE_ACK", ack).await {
                return;
            }
            self.done.extend([number]);
            if !worker.dispatch("QUEUE_REQUEST", json!({ "queue": "jobs" })).await {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_process_that_is_killed_in_a_flood_loses_nothing() {
    let bed = SingyeongBed::new();
    let mut servers = three(&bed).await;
    let flood = Flood::default();
    let mut tasks = JoinSet::new();
    let address = |n: usize, servers: &[SingyeongServer]| servers[n].address.clone();
    for (n, worker) in [(1, "b1"), (1, "b2"), (2, "c1"), (2, "c2")] {
        tasks.spawn(flood.clone().work(address(n, &servers), worker.to_owned()));
    }
    let mut looking = SingyeongClient::identify(&servers[0].address, "looking", "looking").await;
    looking.sees("workers", "all workers", |clients| clients.len() == 4).await;
    // One producer stays, one dies with its process.
    let mut producers = JoinSet::new();
    producers.spawn(flood.clone().produce(address(0, &servers), "stays".to_owned(), 0));
    producers.spawn(flood.clone().produce(address(1, &servers), "dies".to_owned(), FLOOD));
    eventually("a flood", || flood.done.len() as u64 > FLOOD / 4 && flood.received.len() as u64 > FLOOD / 4).await;
    servers.remove(1).kill().await;
    while let Some(ended) = must("the producers' end", producers.join_next()).await {
        ended.expect("it did not panic");
    }
    assert!(flood.queued.len() as u64 >= FLOOD && flood.sent.len() as u64 >= FLOOD);
    assert!((flood.queued.len() as u64) < 2 * FLOOD, "it was killed before its producer was done");
    let missing = |wanted: &Numbers, there: &Numbers| wanted.get().difference(&there.get()).count();
    eventually("every message that was confirmed", || {
        missing(&flood.queued, &flood.done) == 0 && missing(&flood.sent, &flood.received) == 0
    })
    .await;
    for server in servers {
        server.stop().await;
    }
    while let Some(ended) = must("the workers' end", tasks.join_next()).await {
        ended.expect("it did not panic");
    }
}
