//! What is in deploy/ for Prometheus and Grafana, and how docker-compose.yml starts them: Prometheus' own tool takes it, the rules
//! fire when they should, and nobody asks for a metric that Optic does not have.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use optic::http::metrics::{Kind, METRICS};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn prometheus_takes_the_configuration_and_the_rules_fire_when_they_should() {
    if common::is_without("promtool") {
        return;
    }
    for arguments in
        [["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]]
    {
        let promtool = Command::new("promtool").args(arguments).current_dir(root().join("deploy/prometheus")).output();
        let output = promtool.expect("promtool is installed: scripts/setup prometheus");
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

/// The rules, each as an object.
fn rules() -> Vec<Value> {
    let file = yaml("deploy/prometheus/alerts.yml");
    let groups = file["groups"].as_array().expect("groups");
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

#[test]
fn every_rule_says_what_is_so_what_to_do_and_how_bad_it_is_and_is_tested() {
    let tests = read("deploy/prometheus/alerts.test.yml");
    for rule in rules().into_iter().filter(|rule| rule["record"].is_null()) {
        let name = rule["alert"].as_str().expect("a name");
        for needed in ["summary", "description"] {
            assert!(rule["annotations"][needed].as_str().is_some_and(|text| text.len() > 10), "{name}: {needed}");
        }
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap_or_default()), "{name}");
        assert!(tests.contains(name), "{name} is not in alerts.test.yml");
    }
}

/// Every expression of the dashboard, with where it stands.
fn dashboard() -> Vec<(String, String)> {
    let dashboard = json("deploy/grafana/dashboards/optic.json");
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((title.to_owned(), target["expr"].as_str().expect("an expression").to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        if let Some(definition) = variable["definition"].as_str() {
            found.push((variable["name"].to_string(), definition.to_owned()));
        }
    }
    found
}

/// Names of series that Prometheus may be asked for.
fn series() -> BTreeSet<String> {
    let of = |metric: &optic::http::metrics::Metric| match metric.kind {
        Kind::Summary => ["", "_sum", "_count"].map(|end| format!("{}{end}", metric.name)).to_vec(),
        Kind::Counter | Kind::Gauge => vec![metric.name.to_owned()],
    };
    METRICS.iter().flat_map(of).collect()
}

/// Names of metrics in an expression: what is neither a label, nor a string, nor a function, nor a word of the language.
fn names(expression: &str) -> BTreeSet<String> {
    const WORDS: [&str; 13] = [
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "and",
        "or",
        "unless",
        "bool",
        "offset",
        "label_values",
        "inf",
    ];
    let mut names = BTreeSet::new();
    let mut rest = expression;
    // What the last word before a parenthesis was: behind some words there are labels in it.
    let mut word = "";
    while let Some(first) = rest.chars().next() {
        let skip = |end: char| rest.find(end).map_or(rest.len(), |at| at + end.len_utf8());
        if first == '{' {
            rest = &rest[skip('}')..];
        } else if first == '[' {
            rest = &rest[skip(']')..];
        } else if first == '"' {
            rest = rest[1..].split_once('"').expect("a string that ends").1;
        } else if first == '(' && ["by", "without", "on", "ignoring", "group_left", "group_right"].contains(&word) {
            rest = &rest[skip(')')..];
            word = "";
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
            word = &rest[..end];
            rest = &rest[end..];
            if word == "label_values" {
                // `label_values(metric, label)`: the label is none.
                let inside = rest.trim_start_matches('(');
                return names_before_last_comma(inside);
            }
            // `sum(…)`, or `sum by (…) (…)`.
            let behind = rest.trim_start();
            let is_function = ["(", "by ", "by(", "without ", "without("].iter().any(|it| behind.starts_with(it));
            if !is_function && !WORDS.contains(&word) {
                names.insert(word.to_owned());
            }
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(rest.len());
            rest = &rest[end..];
        } else {
            if !first.is_whitespace() {
                word = "";
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    names
}

fn names_before_last_comma(inside: &str) -> BTreeSet<String> {
    names(inside.rsplit_once(',').expect("a metric and a label").0)
}

#[test]
fn names_of_metrics_are_found_in_expressions() {
    let found = |expression| names(expression).into_iter().collect::<Vec<_>>();
    assert_eq!(
        found("sum by (job, id) (rate(a_total{job=~\"x\"}[5m])) > 3 * b unless on (job) c == 0"),
        ["a_total", "b", "c"]
    );
    assert_eq!(found("label_values(d{job=\"$job\"}, instance)"), ["d"]);
    assert_eq!(found("label_replace(g, \"id\", \"$1\", \"shard\", \"(.+)\") and on (job) a:b:c"), ["a:b:c", "g"]);
    assert_eq!(found("time() - e + on (job) group_left (version) 0 * f"), ["e", "f"]);
}

#[test]
fn dashboard_and_rules_ask_for_metrics_that_there_are() {
    let rules = rules();
    let recorded = rules.iter().filter_map(|rule| rule["record"].as_str()).map(str::to_owned);
    let there: BTreeSet<String> = series().into_iter().chain(recorded).collect();
    let rules = rules.iter().map(|rule| (rule["alert"].to_string(), rule["expr"].as_str().expect("text").to_owned()));
    for (place, expression) in dashboard().into_iter().chain(rules) {
        let names = names(&expression);
        assert!(!names.is_empty(), "{place}: {expression}");
        for name in names {
            assert!(there.contains(&name), "{place}: there is no metric {name}: {expression}");
        }
    }
}

#[test]
fn the_dashboard_shows_every_metric_but_those_that_say_nothing_over_time() {
    // Which are the same as another one's, or of use to rules alone.
    const LEFT_OUT: [&str; 2] = ["optic_session_starts_reset_timestamp_seconds", "optic_max_concurrency"];
    let shown: BTreeSet<String> = dashboard().iter().flat_map(|(_, expression)| names(expression)).collect();
    let missing: Vec<&str> = METRICS
        .iter()
        .map(|metric| metric.name)
        .filter(|name| !shown.contains(*name) && !LEFT_OUT.contains(name))
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn panels_have_ids_of_their_own_and_lie_beside_each_other() {
    let dashboard = json("deploy/grafana/dashboards/optic.json");
    let panels = dashboard["panels"].as_array().expect("panels");
    let number = |panel: &Value, name: &str| panel["gridPos"][name].as_u64().expect("a number");
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        for x in number(panel, "x")..number(panel, "x") + number(panel, "w") {
            for y in number(panel, "y")..number(panel, "y") + number(panel, "h") {
                assert!(x < 24 && cells.insert((x, y)), "{} lies on another panel", panel["title"]);
            }
        }
    }
}

#[test]
fn compose_starts_them_with_what_is_in_deploy_for_this_machine_alone() {
    let compose = yaml("docker-compose.yml");
    for name in ["prometheus", "grafana"] {
        let service = &compose["services"][name];
        assert_eq!(service["profiles"], serde_json::json!(["observe"]), "{name}");
        let image = service["image"].as_str().expect("an image");
        assert!(image.rsplit_once(':').is_some_and(|(_, tag)| tag.contains(|c: char| c.is_ascii_digit())), "{image}");
        for port in service["ports"].as_array().expect("ports") {
            assert!(port.as_str().is_some_and(|port| port.starts_with("127.0.0.1:")), "{name}: {port}");
        }
        let mut mounts = 0;
        for volume in
            service["volumes"].as_array().expect("volumes").iter().map(|volume| volume.as_str().expect("text"))
        {
            let (from, to) = volume.split_once(':').expect("two sides");
            if from.starts_with("./") {
                let path: PathBuf = root().join(from);
                assert!(path.is_dir() && to.ends_with(":ro"), "{name}: {volume}");
                mounts += 1;
            } else {
                assert!(compose["volumes"].get(from).is_some(), "{name}: {volume}");
            }
        }
        assert!(mounts > 0, "{name}");
    }
    // What Grafana is told lies where it is mounted.
    let provider = yaml("deploy/grafana/provisioning/dashboards/optic.yml");
    assert_eq!(provider["providers"][0]["options"]["path"], "/etc/grafana/dashboards");
    let source = yaml("deploy/grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let scraped = yaml("deploy/prometheus/prometheus.yml");
    for name in scraped["scrape_configs"][0]["dns_sd_configs"][0]["names"].as_array().expect("names") {
        assert!(compose["services"].get(name.as_str().expect("text")).is_some(), "{name} is no service");
    }
}
