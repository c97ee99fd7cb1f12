use std::path::Path;

use super::*;

/// As sinGateway's documentation shows its file, the commas that stand there taken away.
const SINGATEWAY: &str = include_str!("../../../tests/data/singateway.yml");

fn read(name: &str, text: &str) -> Result<FileSettings, FileError> {
    FileSettings::read(Path::new(name), text)
}

fn pairs(settings: &FileSettings) -> Vec<(&str, &str)> {
    settings.variables.iter().map(|variable| (variable.name, variable.text.as_str())).collect()
}

fn warnings(settings: &FileSettings) -> Vec<String> {
    settings.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn singateways_file_says_what_variables_say() {
    let read = read("config.yml", SINGATEWAY).expect("a good file");
    let rules = r#"[{"events":["READY","GUILD_CREATE"],"target":{"application":"worker","ops":[{"op":"$in","path":"/events","to":{"value":"{{EVENT}}"}}]},"type":"send"}]"#;
    let expected = [
        ("DISCORD_TOKEN", "YOUR_BOT_TOKEN"),
        ("SINGYEONG_DSN", "singyeong://gateway@localhost:4567"),
        ("DISCORD_INTENTS", "513"),
        ("LOG_LEVEL", "info"),
        ("CLUSTER_COUNT", "2"),
        ("CLUSTER_SHARDS", "4"),
        ("FORWARDING", rules),
    ];
    let found = pairs(&read);
    assert_eq!(found[..6], expected[..6]);
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!((found[6].0, json(found[6].1)), ("FORWARDING", json(rules)));
    assert_eq!(warnings(&read), ["redisDSN: not needed, and not read: RabbitMQ keeps the sessions (AMQP_URL)"]);
    assert_eq!(read.variables[4].key, "clustering.clusterCount");
}

#[test]
fn a_broker_that_is_none_of_optics_is_told_as_the_variable_is() {
    for (kind, expected) in [("redis", "redis"), ("amqp", "amqp"), ("", "stdio"), ("nats", "stdio")] {
        let read = read("gateway.toml", &format!("[broker]\ntype = \"{kind}\"")).expect("a good file");
        assert_eq!(pairs(&read), [("BROKER_TYPE", expected)]);
    }
}

#[test]
fn a_comma_behind_a_value_is_told_with_its_place_and_the_remedy() {
    let text = SINGATEWAY.replace("path: \"/events\"", "path: \"/events\",");
    let error = read("config.yaml", &text).expect_err("no YAML");
    assert_eq!(
        error.to_string(),
        "line 19, column 26: not YAML: a comma stands behind a quoted value; take it away, here and wherever a line ends so"
    );
}

#[test]
fn what_is_no_yaml_json_or_toml_is_told_with_its_place_and_without_its_text() {
    for (name, text, place) in [
        ("c.yml", "token: \"hunter2\"\nforwarding: [\n", "line "),
        ("c.yml", "token: \"hunter2\"\n\tintents: 3\n", "line 2, column "),
        ("c.json", "{\"token\": \"hunter2\",\n \"intents\": }", "line 2, column 13: not JSON: "),
        ("c.toml", "token = \"hunter2\"\nevents = [\"A\"\n[shards]", "line "),
        ("c.toml", "token = \"hunter2\nintents = 3", "line 1, column "),
    ] {
        let told = read(name, text).expect_err(text).to_string();
        assert!(told.starts_with(place) && !told.contains("hunter2"), "{name}: {told}");
    }
    assert_eq!(read("gateway.ini", ""), Err(FileError::UnknownKind));
    assert_eq!(read("config.json", "[]"), Err(FileError::NotSettings));
    let error = read("config.json", r#"{"clustering": {"enabled": "yes"}}"#).expect_err("a text");
    assert_eq!(error.to_string(), "clustering.enabled is a text; write true or false");
}

#[test]
fn what_is_not_a_setting_is_told() {
    let read =
        read("c.yml", "tokn: x\nclustering:\n  enabled: false\n  clusterCount: 2\n  foo: 1\n").expect("a good file");
    assert_eq!(pairs(&read), []);
    let expected = [
        "clustering.foo: not a setting that is known, and not read",
        "tokn: not a setting that is known, and not read; did you mean token?",
    ];
    assert_eq!(warnings(&read), expected);
}

#[test]
fn spectacles_file_says_what_variables_say() {
    let text = r#"
        token = "t"
        events = ["MESSAGE_CREATE", "GUILD_CREATE"]
        intents = ["GUILDS"]
        [api]
        version = 10
        scheme = "https"
        host = "discord.com"
        [shards]
        count = 2
        ids = [0, 1]
        [broker]
        type = "amqp"
        group = "gateway"
        message_timeout = "2m"
        [prometheus]
        address = ":8080"
        endpoint = "/metrics"
        [shard_store]
        type = "redis"
        prefix = "gateway"
        [presence]
        status = "online"
        [presence.game]
        name = "test"
        type = 0
        [amqp]
        url = "amqp://localhost"
        [redis]
        url = "localhost:6379"
        pool_size = 5
    "#;
    let read = read("gateway.toml", text).expect("a good file");
    let expected = [
        ("DISCORD_TOKEN", "t"),
        ("DISCORD_EVENTS", "MESSAGE_CREATE,GUILD_CREATE"),
        ("DISCORD_INTENTS", "GUILDS"),
        ("DISCORD_API_PROTOCOL", "https"),
        ("DISCORD_API_HOST", "discord.com"),
        ("DISCORD_API_VERSION", "10"),
        ("DISCORD_SHARD_COUNT", "2"),
        ("DISCORD_SHARD_IDS", "0,1"),
        ("BROKER_TYPE", "amqp"),
        ("BROKER_GROUP", "gateway"),
        ("BROKER_MESSAGE_TIMEOUT", "2m"),
        ("PROMETHEUS_ADDRESS", ":8080"),
        ("PROMETHEUS_ENDPOINT", "/metrics"),
        ("DISCORD_PRESENCE", r#"{"status":"online","activities":[{"name":"test","type":0}]}"#),
        ("AMQP_URL", "amqp://localhost"),
    ];
    let json = |text: &str| serde_json::from_str::<Value>(text).ok();
    let same = |(found, wanted): (&(&str, &str), &(&str, &str))| {
        found.0 == wanted.0 && (found.1 == wanted.1 || json(found.1).is_some_and(|value| Some(value) == json(wanted.1)))
    };
    assert!(pairs(&read).iter().zip(&expected).all(same) && read.variables.len() == 15, "{:?}", pairs(&read));
    let expected = [
        "shard_store.type: Optic needs no Redis: sessions are kept in RabbitMQ",
        "redis: not needed, and not read: RabbitMQ keeps the sessions",
    ];
    assert_eq!(warnings(&read), expected);
}

#[test]
fn the_environment_goes_before_the_file() {
    let left = |set: &[&str]| {
        let mut read = read("config.yml", SINGATEWAY).expect("a good file");
        read.give_way(|name| {
            set.iter().find_map(|set| match set.split_once('=') {
                Some((known, text)) => (known == name).then_some(text),
                None => (*set == name).then_some("x"),
            })
        });
        read.variables.iter().map(|variable| variable.name).collect::<Vec<_>>()
    };
    assert_eq!(left(&[]).len(), 7);
    assert!(!left(&["DISCORD_TOKEN_FILE"]).contains(&"DISCORD_TOKEN"));
    assert!(!left(&["DISCORD_RAW_INTENTS"]).contains(&"DISCORD_INTENTS"));
    let others = left(&["DISCORD_SHARD_COUNT"]);
    assert!(!others.contains(&"CLUSTER_COUNT") && !others.contains(&"CLUSTER_SHARDS"));
    for set in ["CLUSTER_ID", "CLUSTER_MODE=static", "DISCORD_TOKEN= "] {
        assert_eq!(left(&[set]).len(), 7, "{set}");
    }
    assert!(!left(&["CLUSTER_MODE=leased"]).contains(&"CLUSTER_COUNT"));
    let mut raw = read("gateway.toml", "raw_intents = 513").expect("a good file");
    raw.give_way(|name| (name == "DISCORD_INTENTS").then_some("GUILDS"));
    assert_eq!(pairs(&raw), []);
}

#[test]
fn a_comma_that_yaml_allows_is_no_mistake() {
    let text = "forwarding:\n  target: {\n    application: \"worker\",\n    optional: true\n  }\n  events: [READY]\n";
    let read = read("c.yml", text).expect("YAML");
    assert_eq!(read.variables[0].name, "FORWARDING");
}
