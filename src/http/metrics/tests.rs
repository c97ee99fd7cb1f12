use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::exposition::{LONGEST_LABEL, MOST_SERIES};
use super::*;
use crate::amybot::proxy::MOST_PAIRS;
use crate::cluster::node::NodeId;
use crate::seen::report::*;
use crate::seen::{Packets, Sample, ShardPackets};

pub struct Told(Report, Vec<ShardPackets>);

impl Reporter for Told {
    fn report(&self) -> Report {
        self.0.clone()
    }

    fn samples(&self, _: u64) -> Vec<Sample> {
        Vec::new()
    }

    fn packets(&self) -> Vec<ShardPackets> {
        self.1.clone()
    }
}

fn shard(id: u32, state: ShardState) -> ShardReport {
    ShardReport {
        id,
        state,
        since: 0,
        latency_ms: Some(41.5),
        guilds: Some(1200 + id),
        events: 10,
        rate: 1.0,
        resumes: 3,
        last_resume: None,
        identifies: 2,
        disconnects: 4,
        last_disconnect: None,
        gaps: 1,
        last_gap: None,
        malformed: 0,
    }
}

fn packets(shard: u32) -> ShardPackets {
    let packets = |op, name: Option<&str>, count| Packets { op, name: name.map(Arc::from), count };
    ShardPackets {
        shard,
        received: vec![packets(0, Some("MESSAGE_CREATE"), 500), packets(0, Some("READY"), 1), packets(11, None, 9)],
        sent: vec![packets(1, None, 9), packets(2, None, 1)],
        pings: 9,
        ping_sum_ms: 450.5,
        latest_pings_ms: vec![90.0, 10.0, 50.0, 20.0],
    }
}

/// Nothing is missing in it.
pub fn full() -> Told {
    let report = Report {
        version: VERSION,
        node: NodeId::of_run("web-1", 7),
        name: "web-1".to_owned(),
        group: "gateway".to_owned(),
        optic: "1.2.3".to_owned(),
        started_at: 1_790_000_000_500,
        at: 1_790_000_100_000,
        mode: Mode::Leased,
        ready: true,
        missing: Vec::new(),
        broker: "connected".to_owned(),
        shard_count: 16,
        shards: vec![shard(3, ShardState::Connected), shard(4, ShardState::Resuming)],
        events: Vec::new(),
        gaps: vec![Counted { kind: "refused".to_owned(), count: 2 }],
        publishing: Some(Publishing {
            confirmed: 100,
            unconfirmed: 7,
            unconfirmed_bytes: 3500,
            latency_ms: Some(2.5),
            ..Publishing::default()
        }),
        commands: Commands {
            rejected: vec![Counted { kind: "forbidden_op".to_owned(), count: 2 }],
            ..Commands::default()
        },
        identifies: Some(Identifies {
            remaining: 950,
            total: 1000,
            resets_at: 1_790_086_400_000,
            max_concurrency: 16,
            waiting: 1,
        }),
        queues: vec![QueueReport {
            name: "gateway:MESSAGE_CREATE".to_owned(),
            event: None,
            messages: 12,
            consumers: 3,
        }],
        singyeong: Some(Singyeong::default()),
        forwarding: Some(Forwarding::default()),
        amybot: Some(Amybot {
            proxied: vec![Proxied { source: "web".to_owned(), topic: "stats".to_owned(), delivered: 5, set_aside: 1 }],
        }),
        resources: Resources { cpu_seconds: 12.25, cpu: 0.1, resident_bytes: 30 << 20 },
    };
    Told(report, vec![packets(3), packets(4)])
}

fn text(told: &Told) -> String {
    String::from_utf8(render(told)).expect("text")
}

fn assert_has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|there| there == *line), "{line} is missing:\n{text}");
    }
}

#[test]
fn the_names_of_spec_tacles_are_kept_with_their_types_and_labels() {
    assert_has(
        &text(&full()),
        &[
            "# TYPE gateway_packets_received counter",
            r#"gateway_packets_received{t="MESSAGE_CREATE",op="0",shard="3"} 500"#,
            r#"gateway_packets_received{t="",op="11",shard="4"} 9"#,
            "# TYPE gateway_packets_sent counter",
            r#"gateway_packets_sent{t="",op="2",shard="3"} 1"#,
            "# TYPE gateway_shards_alive gauge",
            r#"gateway_shards_alive{id="3"} 1"#,
            r#"gateway_shards_alive{id="4"} 0"#,
            "# TYPE gateway_total_shards gauge",
            "gateway_total_shards 2",
            "# TYPE gateway_ping summary",
            r#"gateway_ping{id="3",quantile="0.5"} 20"#,
            r#"gateway_ping{id="3",quantile="0.9"} 90"#,
            r#"gateway_ping{id="3",quantile="0.95"} 90"#,
            r#"gateway_ping{id="3",quantile="0.99"} 90"#,
            r#"gateway_ping_sum{id="3"} 450.5"#,
            r#"gateway_ping_count{id="3"} 9"#,
        ],
    );
}

#[test]
fn our_own_are_in_base_units() {
    assert_has(
        &text(&full()),
        &[
            r#"optic_build_info{version="1.2.3"} 1"#,
            r#"optic_node_info{name="web-1",group="gateway",mode="leased"} 1"#,
            "optic_ready 1",
            r#"optic_broker_state{state="connected"} 1"#,
            r#"optic_broker_state{state="blocked"} 0"#,
            "optic_bot_shards 16",
            r#"optic_shard_state{shard="4",state="resuming"} 1"#,
            r#"optic_shard_guilds{shard="3"} 1203"#,
            r#"optic_resumes_total{shard="3"} 3"#,
            "optic_publish_latency_seconds 0.0025",
            "optic_unconfirmed_messages 7",
            "optic_unconfirmed_bytes 3500",
            r#"optic_gaps_total{reason="refused"} 2"#,
            r#"optic_commands_rejected_total{kind="forbidden_op"} 2"#,
            r#"optic_commands_rejected_total{kind="no_op"} 0"#,
            "optic_session_starts_remaining 950",
            "optic_session_starts_reset_timestamp_seconds 1790086400",
            r#"optic_queue_messages{queue="gateway:MESSAGE_CREATE"} 12"#,
            r#"optic_queue_consumers{queue="gateway:MESSAGE_CREATE"} 3"#,
            r#"optic_amybot_proxied_total{source="web",topic="stats",outcome="set_aside"} 1"#,
            "process_cpu_seconds_total 12.25",
            "process_resident_memory_bytes 31457280",
            "process_start_time_seconds 1790000000.5",
        ],
    );
}

#[test]
fn every_metric_of_the_catalogue_is_told_in_its_order_and_no_other() {
    let text = text(&full());
    let told: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').expect("a type"))
        .collect();
    let expected: Vec<(&str, &str)> = METRICS.iter().map(|metric| (metric.name, metric.kind.name())).collect();
    assert_eq!(told, expected);
    assert_eq!(METRICS.iter().map(|metric| metric.name).collect::<BTreeSet<_>>().len(), METRICS.len());
}

#[test]
fn the_documentation_has_every_metric_with_its_type_labels_and_meaning() {
    let spec = include_str!("../../../spec/seeing.md");
    let rows: Vec<&str> =
        spec.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 3).collect();
    let expected: Vec<String> = METRICS
        .iter()
        .map(|Metric { name, kind, labels, help }| {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            format!("| `{name}` | {} | {} | {help} |", kind.name(), labels.join(", "))
        })
        .collect();
    assert_eq!(rows, expected, "spec/seeing.md, \"Metrics\"");
}

#[test]
fn what_is_not_there_has_no_metric() {
    let Told(report, _) = full();
    let nothing = Report {
        shards: Vec::new(),
        gaps: Vec::new(),
        publishing: None,
        identifies: None,
        queues: Vec::new(),
        singyeong: None,
        forwarding: None,
        amybot: None,
        broker: "something new".to_owned(),
        ready: false,
        ..report
    };
    let text = text(&Told(nothing, Vec::new()));
    assert_has(&text, &["gateway_total_shards 0", "optic_ready 0", r#"optic_broker_state{state="connected"} 0"#]);
    for absent in
        ["gateway_ping", "gateway_shards_alive", "optic_unconfirmed", "optic_session_starts", "optic_singyeong"]
    {
        assert!(!text.contains(absent), "{absent}:\n{text}");
    }
}

/// How many series each metric has. A series told twice would have Prometheus refuse the whole scrape.
fn series(text: &str) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect("a value");
        assert!(seen.insert(series), "told twice: {series}");
        *counts.entry(series.split('{').next().expect("a name")).or_default() += 1;
    }
    counts
}

#[test]
fn labels_from_outside_are_cut_escaped_and_only_so_many() {
    let mut told = full();
    let long = |n: usize| format!("\"\n\\{}{n}", "ü".repeat(500));
    let (report, packets) = (&mut told.0, &mut told.1);
    report.queues = (0..3000)
        .map(|n| QueueReport { name: format!("{n}{}", long(n)), event: None, messages: 1, consumers: 0 })
        .collect();
    report.commands.rejected = (0..3000).map(|n| Counted { kind: format!("{n}"), count: 1 }).collect();
    let proxied = |n| Proxied { source: format!("{n}"), topic: long(n), delivered: 1, set_aside: 1 };
    report.amybot = Some(Amybot { proxied: (0..3000).map(proxied).collect() });
    packets[0].received = (0..3000).map(|n| Packets { op: 0, name: Some(format!("E{n}").into()), count: 1 }).collect();
    let text = text(&told);
    let counts = series(&text);
    assert_eq!(counts["optic_queue_messages"], MOST_SERIES);
    assert_eq!(counts["optic_commands_rejected_total"], MOST_SERIES + 1);
    assert_eq!(counts["optic_amybot_proxied_total"], 2 * MOST_PAIRS + 2);
    assert_eq!(counts["gateway_packets_received"], MOST_SERIES + 1 + 3);
    assert_has(
        &text,
        &[
            r#"optic_commands_rejected_total{kind="other"} 2511"#,
            r#"gateway_packets_received{t="other",op="0",shard="3"} 2500"#,
            r#"optic_amybot_proxied_total{source="other",topic="other",outcome="set_aside"} 2000"#,
        ],
    );
    assert!(text.lines().all(|line| line.chars().count() < 3 * LONGEST_LABEL + 200));
}

#[test]
fn a_new_pair_of_amybot_s_takes_no_older_one_s_series() {
    let mut told = full();
    let proxied = |n: usize| Proxied { source: format!("{n:05}"), topic: "t".to_owned(), delivered: 1, set_aside: 1 };
    // As many as are counted each for itself, with one that is new before all others.
    told.0.amybot = Some(Amybot { proxied: (1..=MOST_PAIRS).map(proxied).collect() });
    let before = text(&told);
    assert!(!before.contains(r#"source="other""#), "{before}");
    assert_eq!(series(&before)["optic_amybot_proxied_total"], 2 * MOST_PAIRS);
}

#[test]
fn what_is_the_same_after_the_cut_is_told_once() {
    let mut told = full();
    let name = "x".repeat(LONGEST_LABEL);
    let names = [name.clone() + "1", name + "2"];
    told.0.commands.rejected = names.iter().map(|kind| Counted { kind: kind.clone(), count: 2 }).collect();
    told.0.queues =
        names.iter().map(|name| QueueReport { name: name.clone(), event: None, messages: 1, consumers: 1 }).collect();
    told.1[0].received =
        names.iter().map(|name| Packets { op: 0, name: Some(name.as_str().into()), count: 1 }).collect();
    let text = text(&told);
    series(&text);
    assert!(text.contains("xxx\"} 4\n"), "{text}");
}
