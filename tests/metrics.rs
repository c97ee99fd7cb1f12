//! spec/seeing.md, "Metrics": what a real Optic tells Prometheus, and that Prometheus' own tool takes it.

mod common;

use std::collections::BTreeMap;
use std::process::Stdio;

use common::{Bed, OpticProcess, Received, Worker, broker, is_without, must};
use optic::http::metrics::{METRICS, Metric};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The value of each series.
type Values = BTreeMap<String, f64>;

async fn scrape(optic: &OpticProcess) -> (String, Values) {
    let (status, text) = Bed::health(optic, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let values = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}: no number")))
    });
    let values = values.collect();
    (text, values)
}

/// Scrapes until it is so.
async fn scrape_until(optic: &OpticProcess, what: &str, is_so: impl Fn(&Values) -> bool) -> (String, Values) {
    must(what, async {
        loop {
            let (text, values) = scrape(optic).await;
            if is_so(&values) {
                return (text, values);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await
}

fn value(values: &Values, series: &str) -> f64 {
    values.get(series).copied().unwrap_or(f64::NAN)
}

#[tokio::test]
async fn what_happens_is_counted_under_the_names_of_spec_tacles_and_our_own() {
    let url = broker();
    let bed = Bed::new(&url, Bed::settings());
    let consumer = bed.consumer(&url).await;
    let optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.flood(60);
    let messages = |all: &Vec<Received>| all.iter().filter(|one| one.routing_key == "MESSAGE_CREATE").count() >= 3;
    consumer.wait_until("some messages", messages).await;
    Worker::connect(&url, &bed.group).await.publish("0", "no command").await;

    let (text, first) = scrape_until(&optic, "everything that happened", |values| {
        value(values, "gateway_shards_alive{id=\"0\"}") == 1.0
            && value(values, "optic_unconfirmed_messages") == 0.0
            && values.iter().any(|(series, count)| series.starts_with("optic_commands_rejected_total{") && *count > 0.0)
    })
    .await;
    for (series, expected) in [
        ("gateway_total_shards", 1.0),
        ("optic_bot_shards", 1.0),
        ("optic_ready", 1.0),
        ("optic_broker_state{state=\"connected\"}", 1.0),
        ("optic_broker_state{state=\"disconnected\"}", 0.0),
        ("optic_shard_state{shard=\"0\",state=\"connected\"}", 1.0),
        ("optic_shard_guilds{shard=\"0\"}", 2.0),
        ("optic_identifies_total{shard=\"0\"}", 1.0),
        ("optic_resumes_total{shard=\"0\"}", 0.0),
        ("optic_gaps_total{reason=\"refused\"}", 0.0),
        ("gateway_packets_received{t=\"READY\",op=\"0\",shard=\"0\"}", 1.0),
        ("gateway_packets_received{t=\"\",op=\"10\",shard=\"0\"}", 1.0),
        ("gateway_packets_sent{t=\"\",op=\"2\",shard=\"0\"}", 1.0),
    ] {
        assert_eq!(value(&first, series), expected, "{series}\n{text}");
    }
    for positive in [
        "gateway_packets_received{t=\"MESSAGE_CREATE\",op=\"0\",shard=\"0\"}",
        "optic_publish_confirmed_total",
        "optic_publish_latency_seconds",
        "optic_session_starts_remaining",
        "optic_session_starts_limit",
        "optic_max_concurrency",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
    ] {
        assert!(value(&first, positive) > 0.0, "{positive}\n{text}");
    }

    // They go on.
    let moving = "gateway_packets_received{t=\"MESSAGE_CREATE\",op=\"0\",shard=\"0\"}";
    let before = value(&first, moving);
    bed.gateway.flood(60);
    let (_, later) = scrape_until(&optic, "more messages", |values| value(values, moving) > before).await;
    assert!(value(&later, "optic_publish_confirmed_total") >= value(&first, "optic_publish_confirmed_total"));

    // A lost connection is told: it is resumed, and nobody identifies again.
    bed.gateway.control("drop", "");
    let resumed = |values: &Values| value(values, "optic_resumes_total{shard=\"0\"}") == 1.0;
    let (text, resumed) = scrape_until(&optic, "a resume", resumed).await;
    assert_eq!(value(&resumed, "optic_identifies_total{shard=\"0\"}"), 1.0, "{text}");
    assert!(value(&resumed, "optic_disconnects_total{shard=\"0\"}") >= 1.0, "{text}");

    // Nothing but the catalogue, with its types.
    let catalogue: BTreeMap<&str, &Metric> = METRICS.iter().map(|metric| (metric.name, metric)).collect();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a type");
        assert_eq!(catalogue.get(name).map(|metric| metric.kind.name()), Some(kind), "{name}");
    }
    if !is_without("promtool") {
        promtool_takes(&text).await;
    }
}

/// All that it finds fault with are names that are not ours to choose.
async fn promtool_takes(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("promtool is installed: scripts/setup prometheus");
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).await.expect("it reads");
    let output = must("promtool", promtool.wait_with_output()).await.expect("it runs");
    let said = String::from_utf8(output.stderr).expect("text");
    let faults: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let kept = [
        "gateway_packets_received counter metrics should have \"_total\" suffix",
        "gateway_packets_sent counter metrics should have \"_total\" suffix",
    ];
    assert_eq!(faults, kept, "{text}");
}

#[tokio::test]
async fn metrics_have_an_address_of_their_own_if_it_is_said() {
    let bed = Bed::new(&broker(), Bed::settings());
    let optic = bed.optic_with(&[("PROMETHEUS_ADDRESS", "127.0.0.1:0"), ("PROMETHEUS_ENDPOINT", "/prom")]);
    let line = optic.wait_for_line("metrics are served").await;
    let address =
        line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("the line has it");
    let (status, text) = Bed::get(address, "/prom").await;
    assert_eq!(status, 200);
    assert!(text.contains("gateway_total_shards"), "{text}");
    assert_eq!(Bed::get(address, "/health/live").await.0, 404);
    assert_eq!(Bed::health(&optic, "/metrics").await.0, 200);
}
