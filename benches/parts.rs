//! What each step of an event's way costs alone: inflating, the envelope, the demand, framing with its confirm, the ledger; and what
//! a query over 신경's clients costs.
//!
//! The input is what the simulator sends, taken off its websocket before anything is timed.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{SinkExt, StreamExt};
use optic::amqp::publisher::outbox::{Confirm, Outbox, Verb, Window};
use optic::amqp::publisher::{Field, Message, Properties};
use optic::broker::Position;
use optic::cluster::node::NodeId;
use optic::discord::compression::{Compression, Encoding};
use optic::discord::envelope;
use optic::discord::ids::Seq;
use optic::discord::inflate::{Buffer, Inflater};
use optic::discord::intents::Intents;
use optic::discord::wire;
use optic::encoding::convert::{Taking, convert};
use optic::encoding::{self, Dialect, Value};
use optic::ledger::Ledger;
use optic::simulator::{Settings, Simulator, Start};
use optic::singyeong::client::{Client, Kind};
use optic::singyeong::ids::ClientKey;
use optic::singyeong::metadata::{Changes, Metadata};
use optic::singyeong::query::Query;
use optic::singyeong::registry::Registry;
use optic::spectacles::demand::Demand;
use tokio_tungstenite::tungstenite::protocol::Message as Frame;
use tokio_util::sync::CancellationToken;

/// Events of a recorded stream, after READY and the guilds.
const EVENTS: u64 = 2_000;

/// Events that are confirmed at once, as in a flood.
const BATCH: u64 = 64;

/// What one connection sends from Hello on, message by message as they come from the socket.
fn recorded(encoding: Encoding, compression: &str, settings: Settings) -> Vec<Vec<u8>> {
    let messages = 2 + settings.guilds + EVENTS;
    let settings = Settings { events: Some(EVENTS), start: Start::AtOnce, ..settings };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let simulator = Simulator::bind(settings).await.expect("a free port");
        let (address, stop) = (simulator.address(), CancellationToken::new());
        let served = tokio::spawn(simulator.run(stop.clone()));
        let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        let url = format!("ws://{address}/?v=10&encoding={encoding}{compression}");
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("an upgrade");
        let intents = Intents::ALL.bits();
        let identify = format!(
            r#"{{"op":2,"d":{{"token":"benchmark","properties":{{"os":"linux"}},"intents":{intents},"shard":[0,1]}}}}"#
        );
        let identify = match encoding {
            Encoding::Json => Frame::text(identify),
            Encoding::Etf => Frame::binary(wire::write(encoding, identify.as_bytes()).expect("JSON").into_owned()),
        };
        socket.send(identify).await.expect("it reads");
        let mut recorded = Vec::new();
        while (recorded.len() as u64) < messages {
            let message = socket.next().await.expect("more to come").expect("a message");
            recorded.push(message.into_data().to_vec());
        }
        stop.cancel();
        served.await.expect("it did not panic");
        recorded
    })
}

fn inflate(c: &mut Criterion) {
    let mut group = c.benchmark_group("inflate");
    let zlib = (Compression::ZlibStream, "&compress=zlib-stream");
    let zstd = (Compression::ZstdStream, "&compress=zstd-stream");
    for (encoding, (compression, query)) in
        [(Encoding::Json, zlib), (Encoding::Etf, zlib), (Encoding::Json, zstd), (Encoding::Etf, zstd)]
    {
        let name = format!("{encoding}, {compression}");
        let stream = recorded(encoding, query, Settings::default());
        let mut buffer = Buffer::default();
        group.throughput(Throughput::Elements(stream.len() as u64));
        group.bench_function(name, |b| {
            // From the first message on: the context is the connection's.
            b.iter_batched_ref(
                || Inflater::new(compression),
                |inflater| {
                    for message in &stream {
                        let packet = inflater.inflate(message, &mut buffer).expect("the simulator compresses rightly");
                        black_box(packet.expect("a message is a packet").len());
                    }
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn scan(c: &mut Criterion) {
    for encoding in [Encoding::Json, Encoding::Etf] {
        scan_in(encoding, c);
    }
}

/// The same events in either encoding.
fn scan_in(encoding: Encoding, c: &mut Criterion) {
    let packets = recorded(encoding, "", Settings { guild_bytes: 1 << 20, ..Settings::default() });
    let scan = |packet| envelope::scan(encoding, packet).expect("a packet");
    let dispatches = || packets.iter().filter(|packet| scan(packet).event.is_some());
    let small = dispatches().min_by_key(|packet| packet.len()).expect("events");
    let large = dispatches().max_by_key(|packet| packet.len()).expect("events");
    let mut group = c.benchmark_group("envelope");
    for (name, packet) in [("small", small), ("large", large)] {
        group.throughput(Throughput::Bytes(packet.len() as u64));
        group.bench_function(format!("{encoding}, {name}, {} bytes", packet.len()), |b| {
            b.iter(|| black_box(scan(black_box(packet)).data.len()));
        });
    }
    let mix: Vec<&Vec<u8>> =
        dispatches().filter(|packet| scan(packet).event.as_deref() != Some("GUILD_CREATE")).collect();
    group.throughput(Throughput::Elements(mix.len() as u64));
    group.bench_function(format!("{encoding}, the mix"), |b| {
        b.iter(|| {
            for packet in &mix {
                black_box(scan(black_box(packet)).data.len());
            }
        });
    });
    group.finish();
}

/// The events of the mix from one encoding into another; and what it costs to read and write them as trees, were there no other
/// way.
fn conversion(c: &mut Criterion) {
    let dialect = |encoding: Encoding| Dialect::Plain(encoding.into());
    let mut group = c.benchmark_group("conversion");
    for from in [Encoding::Json, Encoding::Etf] {
        let packets = recorded(from, "", Settings::default());
        let scanned = packets.iter().map(|packet| envelope::scan(from, packet).expect("a packet"));
        let dispatched = scanned.filter(|packet| packet.event.as_deref().is_some_and(|name| name != "GUILD_CREATE"));
        let events: Vec<&[u8]> = dispatched.map(|packet| packet.data).collect();
        group.throughput(Throughput::Elements(events.len() as u64));
        let (others, taking) = match from {
            Encoding::Json => ([Dialect::Plain(encoding::Encoding::Msgpack), dialect(Encoding::Etf)], Taking::EXACT),
            Encoding::Etf => {
                ([Dialect::Plain(encoding::Encoding::Msgpack), dialect(Encoding::Json)], Taking::IDS_AS_TEXT)
            }
        };
        for to in others.into_iter().chain([Dialect::MsgpackText]) {
            let mut out = Vec::new();
            group.bench_function(format!("{from} to {}", to.name()), |b| {
                b.iter(|| {
                    for event in &events {
                        out.clear();
                        convert(from.into(), black_box(event), to, taking, &mut out).expect("an event");
                        black_box(out.len());
                    }
                });
            });
        }
        if from == Encoding::Json {
            group.bench_function("json to json by serde_json::Value", |b| {
                let mut out = Vec::new();
                b.iter(|| {
                    for event in &events {
                        out.clear();
                        let value: serde_json::Value = serde_json::from_slice(black_box(event)).expect("an event");
                        serde_json::to_writer(&mut out, &value).expect("a Vec takes everything");
                        black_box(out.len());
                    }
                });
            });
        }
    }
    group.finish();
}

/// An event's framing, its writing and its confirm, without a socket.
fn outbox(c: &mut Criterion) {
    let mut group = c.benchmark_group("outbox");
    group.throughput(Throughput::Elements(BATCH));
    for (name, length) in [("600 bytes", 600), ("100 KiB", 100 << 10)] {
        let body = vec![b'x'; length];
        let mut outbox = Outbox::new(Window { messages: 1 << 16, bytes: 64 << 20 });
        let now = Instant::now();
        outbox.connected(131_072);
        group.bench_function(format!("push, write, confirm: {name}"), |b| {
            b.iter(|| {
                for seq in 0..BATCH {
                    outbox.push(&message(&body, seq)).expect("it fits");
                }
                loop {
                    let bytes = black_box(outbox.writable(false, now)).len();
                    if bytes == 0 {
                        break;
                    }
                    outbox.wrote(bytes);
                }
                let confirm = Confirm { verb: Verb::Ack, tag: outbox.last_tag(), multiple: true };
                outbox.confirm(confirm, now).expect("it was written");
                assert_eq!(outbox.unsettled(), 0);
            });
        });
    }
    group.finish();
}

fn message(body: &[u8], seq: u64) -> Message<'_> {
    Message {
        exchange: "gateway",
        routing_key: "MESSAGE_CREATE",
        mandatory: true,
        properties: Properties {
            content_type: Some("application/json"),
            headers: &[("shard", Field::Int(0))],
            persistent: true,
            expiration: None,
            message_id: Some("0123456789abcdef0123456789abcdef:1234567"),
            timestamp: Some(1_790_000_000),
            kind: Some("MESSAGE_CREATE"),
            app_id: Some("optic"),
        },
        prefix: None,
        body,
        shard: 0,
        seq,
    }
}

/// The ledger in a flood: confirms come together, a good while after their events.
fn ledger(c: &mut Criterion) {
    let mut group = c.benchmark_group("ledger");
    group.throughput(Throughput::Elements(BATCH));
    let mut ledger = Ledger::new(Seq::ZERO);
    let mut next = 0;
    group.bench_function("published and committed", |b| {
        b.iter(|| {
            let settled = Position::new(next);
            for _ in 0..BATCH {
                if ledger.is_new(Seq::new(next + 1)) {
                    ledger.published(Seq::new(next + 1), Position::new(next), settled);
                }
                next += 1;
            }
            black_box(ledger.committed(settled))
        });
    });
    group.finish();
}

fn demand(c: &mut Criterion) {
    const NAMES: [&str; 8] = [
        "MESSAGE_CREATE",
        "MESSAGE_UPDATE",
        "MESSAGE_DELETE",
        "GUILD_MEMBER_UPDATE",
        "PRESENCE_UPDATE",
        "VOICE_STATE_UPDATE",
        "MESSAGE_REACTION_ADD",
        "TYPING_START",
    ];
    let now = Instant::now();
    let settled = Position::new(0);
    let mut unrouted = Demand::auto();
    for name in &NAMES[..4] {
        unrouted.returned(name, now);
    }
    let mut group = c.benchmark_group("demand");
    group.throughput(Throughput::Elements(NAMES.len() as u64));
    for (name, mut demand) in
        [("a list", Demand::listed(NAMES)), ("auto, all wanted", Demand::auto()), ("auto, half unwanted", unrouted)]
    {
        group.bench_function(name, |b| {
            b.iter(|| {
                for name in NAMES {
                    black_box(demand.wants(black_box(name), settled, || now));
                }
            });
        });
    }
    group.finish();
}

fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

/// Who is meant, of a few clients and of many: each has a load of its own, and one of two regions.
fn query(c: &mut Criterion) {
    let mut group = c.benchmark_group("query");
    for count in [10, 10_000] {
        let registry = clients(count);
        let operators = [
            ("one", "/load", "$eq", Value::Integer(count - 1)),
            ("half", "/region", "$eq", Value::string("eu")),
            ("no version", "/version", "$lt", Value::string("1.9.0")),
        ];
        for (matching, path, op, operand) in operators {
            let query = |key: Value| {
                let to = Value::map([("value", operand.clone())]);
                let operator = Value::map([("path", Value::string(path)), ("op", Value::string(op)), ("to", to)]);
                let ops = Value::List([operator].into());
                let target = Value::map([("application", Value::string("workers")), ("key", key), ("ops", ops)]);
                Query::compile(&target, 32).expect("a query")
            };
            let (any, keyed) = (query(Value::Null), query(Value::string("guild-1")));
            group.bench_function(format!("choose, {matching} of {count}"), |b| {
                b.iter(|| black_box(registry.choose(black_box(&any))));
            });
            group.bench_function(format!("choose by key, {matching} of {count}"), |b| {
                b.iter(|| black_box(registry.choose(black_box(&keyed))));
            });
            group.bench_function(format!("all, {matching} of {count}"), |b| {
                b.iter(|| black_box(registry.all(black_box(&any)).len()));
            });
        }
    }
    group.finish();
}

fn clients(count: i64) -> Registry {
    let mut registry = Registry::default();
    let node = NodeId::of_run("benchmark", 0);
    let entry = |of: &str, value: Value| Value::map([("type", Value::string(of)), ("value", value)]);
    for n in 0..count {
        let mut metadata = Metadata::default();
        let region = if n % 2 == 0 { "eu" } else { "us" };
        let said = Value::map([
            ("load", entry("integer", Value::Integer(n))),
            ("region", entry("string", Value::string(region))),
            ("shards", entry("list", Value::List([Value::Integer(n)].into()))),
            ("version", entry("version", Value::string("1.10.0"))),
        ]);
        metadata.merge(Changes::read(&said).expect("valid metadata"));
        registry.put(Client {
            key: ClientKey::new("workers", &format!("b7c1c9f0-{n:08}")),
            node: node.clone(),
            since: 0,
            kind: Kind::Websocket,
            restricted: false,
            encoding: encoding::Encoding::Json,
            ip: Some("127.0.0.1".into()),
            namespace: Value::Null.into(),
            receives_client_updates: false,
            last_heartbeat: 0,
            queues: BTreeSet::new(),
            metadata,
        });
    }
    registry
}

criterion_group! {
    name = parts;
    config = short();
    targets = inflate, scan, conversion, demand, outbox, ledger, query
}
criterion_main!(parts);
