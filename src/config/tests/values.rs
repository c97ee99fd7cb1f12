//! Good configurations against their values.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::discord::compression::Compression;
use crate::secret::Secret;

#[test]
fn secrets_come_from_files_without_their_line_break() {
    let (config, _) = read(&[("DISCORD_TOKEN_FILE", "/run/secrets/token")]).expect("a good configuration");
    assert_eq!(bot(&config).token.expose(), "from.a.file");
}

#[test]
fn a_dollar_in_a_value_is_a_dollar() {
    let presence = r#"{"status":"online","activities":[{"name":"${PRICE} or $5","type":0}]}"#;
    let rules = r#"[{"type":"send","target":{"application":"${WORKER}"},"events":["MESSAGE_CREATE"]}]"#;
    let config = good(&[
        ("DISCORD_PRESENCE", presence),
        ("FORWARDING", rules),
        ("AMQP_URL", "amqp://me:a${b}$C@mq"),
        ("SINGYEONG_DSN", "singyeong://app:${x@host:1"),
    ]);
    assert!(format!("{:?}", bot(&config)).contains("${PRICE} or $5"), "{config:?}");
    assert_eq!(amqp(config).url.secret().expose(), "amqp://me:a${b}$C@mq");
}

#[test]
fn a_token_alone_is_enough() {
    let (config, warnings) = with_warnings(&[]);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(bot(&config).token.expose(), TOKEN.1);
    assert_eq!(bot(&config).events, EventFilter::Auto);
    assert_eq!(bot(&config).intents.intents(), Intents::ALL.without(Intents::PRIVILEGED));
    assert_eq!(bot(&config).intents.origin(), IntentOrigin::Unprivileged);
    assert_eq!(shards(&config, 3), [(0, 3), (1, 3), (2, 3)]);
    assert_eq!(bot(&config).api.base_url(), "https://discord.com/api/v10");
    assert_eq!(bot(&config).compression, Compression::ZlibStream);
    assert_eq!(config.broker, Broker::Stdio);
    assert_eq!(config.store, Store::Memory);
    assert_eq!(config.http, Some(SocketAddr::from(([127, 0, 0, 1], 8080))));
    assert_eq!(config.log, Log { filter: "info".to_owned(), format: LogFormat::Text });
}

#[test]
fn an_amqp_url_makes_the_broker_and_the_store_amqp() {
    let config = good(&[AMQP]);
    assert_eq!(config.store, Store::Amqp { prefix: "optic:session".to_owned() });
    let amqp = amqp(config);
    assert_eq!(amqp.group.as_str(), "gateway");
    assert_eq!(amqp.message_timeout, None);
    assert!(amqp.persistent);
    assert_eq!(amqp.url.secret().expose(), AMQP.1);
    assert_eq!(
        format!("{} {0:?}", amqp.url),
        r#"amqp://***@mq:5672/vhost AmqpUrl { url: [secret], masked: "amqp://***@mq:5672/vhost" }"#
    );
}

#[test]
fn every_variable_of_the_broker_is_heeded() {
    let config = good(&[
        AMQP,
        ("BROKER_GROUP", "bots"),
        ("BROKER_MESSAGE_TIMEOUT", "2m"),
        ("BROKER_PERSISTENT", "false"),
        ("BROKER_DECLARE", "MESSAGE_CREATE, web:guild_create MESSAGE_CREATE OPTIC_GAP"),
        ("SHARD_STORE_TYPE", "file"),
        ("SHARD_STORE_PREFIX", "/var/lib/optic"),
    ]);
    assert_eq!(config.store, Store::File { folder: PathBuf::from("/var/lib/optic") });
    let amqp = amqp(config);
    assert_eq!((amqp.message_timeout, amqp.persistent), (Some(Duration::from_secs(120)), false));
    let names: Vec<String> = amqp.declare.iter().map(|queue| queue.name(&amqp.group)).collect();
    assert_eq!(names, ["bots:MESSAGE_CREATE", "bots:web:GUILD_CREATE", "bots:OPTIC_GAP"]);
}

#[test]
fn shards_are_all_some_or_a_clusters_share() {
    assert_eq!(shards(&good(&[("DISCORD_SHARD_COUNT", "2")]), 9), [(0, 2), (1, 2)]);
    assert_eq!(shards(&good(&[("DISCORD_SHARD_COUNT", "0")]), 1), [(0, 1)]);
    let some = good(&[("DISCORD_SHARD_COUNT", "8"), ("DISCORD_SHARD_IDS", "5-6, 0")]);
    assert_eq!(shards(&some, 9), [(0, 8), (5, 8), (6, 8)]);
    let cluster = good(&[("CLUSTER_ID", "1"), ("CLUSTER_COUNT", "3"), ("CLUSTER_SHARDS", "2")]);
    assert_eq!(shards(&cluster, 9), [(2, 6), (3, 6)]);
}

#[test]
fn shards_are_this_process_s_own_or_shared_by_leases() {
    assert_eq!(good(&[AMQP]).cluster.mode, ClusterMode::Static);
    assert_eq!(good(&[AMQP, ("CLUSTER_MODE", "Static")]).cluster.mode, ClusterMode::Static);
    let leased = good(&[AMQP, ("CLUSTER_MODE", "leased"), ("DISCORD_SHARD_COUNT", "8")]);
    assert_eq!((leased.cluster.mode, bot(&leased).shards.count()), (ClusterMode::Leased, Some(8)));
    assert_eq!(bot(&good(&[AMQP, ("CLUSTER_MODE", "leased")])).shards.count(), None);
}

#[test]
fn a_process_is_called_as_set_or_as_its_machine() {
    let node = |vars: Pairs| good(vars).cluster.node;
    assert_eq!(node(&[AMQP]), "optic");
    assert_eq!(node(&[AMQP, ("HOSTNAME", "web-1.example")]), "web-1.example");
    assert_eq!(node(&[AMQP, ("HOSTNAME", "web-1"), ("CLUSTER_NODE", " blue ")]), "blue");
    assert_eq!(node(&[AMQP, ("HOSTNAME", "old"), ("HOSTNAME", "new")]), "new", "the later holds");
}

#[test]
fn intents_are_those_given_by_name_or_number() {
    let expected = Intents::GUILDS.union(Intents::GUILD_MESSAGES);
    for vars in [
        &[("DISCORD_INTENTS", "GUILDS,GUILD_MESSAGES")][..],
        &[("DISCORD_INTENTS", "guilds | guild_messages")],
        &[("DISCORD_INTENTS", "513")],
        &[("DISCORD_RAW_INTENTS", "0x201")],
        &[("DISCORD_RAW_INTENTS", "0"), ("DISCORD_INTENTS", "GUILDS GUILD_MESSAGES")],
    ] {
        let config = good(vars);
        assert_eq!(bot(&config).intents.intents(), expected, "{vars:?}");
        assert_eq!(bot(&config).intents.origin(), IntentOrigin::Given);
        assert_eq!(bot(&config).intents.notes(), ["intents, as set: GUILDS | GUILD_MESSAGES"]);
    }
    assert_eq!(bot(&good(&[("DISCORD_INTENTS", "GUILD_EMOJIS")])).intents.intents(), Intents::GUILD_EXPRESSIONS);
    assert_eq!(bot(&good(&[("DISCORD_INTENTS", "0")])).intents.intents(), Intents::NONE);
}

#[test]
fn intents_are_derived_from_the_events_and_the_log_says_so() {
    let config = good(&[("DISCORD_EVENTS", "message_create, GUILD_MEMBER_ADD")]);
    assert_eq!(listed(&config), BTreeSet::from(["GUILD_MEMBER_ADD", "MESSAGE_CREATE"]));
    assert_eq!(
        bot(&config).intents.notes(),
        [
            "intents, derived from DISCORD_EVENTS: GUILD_MEMBERS | GUILD_MESSAGES | DIRECT_MESSAGES",
            "privileged, to be switched on in Discord's developer portal: GUILD_MEMBERS",
            "messages come without their content, but for direct messages and mentions: for all of it name every intent in \
             DISCORD_INTENTS, with MESSAGE_CONTENT, which is privileged",
        ]
    );
}

#[test]
fn the_api_is_where_it_is_said_to_be() {
    let config =
        good(&[("DISCORD_API_HOST", "[::1]:8081"), ("DISCORD_API_PROTOCOL", "HTTP"), ("DISCORD_API_VERSION", "v9")]);
    assert_eq!(bot(&config).api.base_url(), "http://[::1]:8081/api/v9");
}

#[test]
fn the_presence_is_kept_as_it_was_given() {
    let text = r#"{ "status": "dnd", "since": null, "afk": false, "activities": [{"name":"x","type":1,"url":null}] }"#;
    let presence = bot(&good(&[("DISCORD_PRESENCE", text)])).presence.clone().expect("a presence");
    assert_eq!(presence.get(), text);
}

#[test]
fn health_is_served_where_it_is_said_or_nowhere() {
    for (text, expected) in [
        ("", None),
        ("off", None),
        (":9000", Some("0.0.0.0:9000")),
        ("localhost:9000", Some("127.0.0.1:9000")),
        ("[::]:9000", Some("[::]:9000")),
    ] {
        let address = good(&[("HTTP_ADDRESS", text)]).http.map(|address| address.to_string());
        assert_eq!(address.as_deref(), expected, "{text}");
    }
}

#[test]
fn the_page_may_be_closed_to_all_who_do_not_know_the_token() {
    let token = ("HTTP_TOKEN", "hunter2.hunter2.hunter2");
    assert_eq!(good(&[]).http_readers, HttpReaders::Loopback);
    assert_eq!(good(&[token]).http_readers, HttpReaders::Loopback);
    assert_eq!(good(&[token, ("HTTP_READERS", "Token")]).http_readers, HttpReaders::Token);
    let of_file = [("HTTP_TOKEN_FILE", "/run/secrets/token"), ("HTTP_READERS", "token")];
    assert_eq!(good(&of_file).http_readers, HttpReaders::Token);
}

#[test]
fn metrics_have_a_second_address_if_it_is_said() {
    let at = |vars: &[(&str, &str)]| {
        let config = good(vars);
        let prometheus = config.prometheus.map(|at| format!("{}{}", at.address, at.endpoint));
        (config.http.map(|address| address.to_string()).unwrap_or_default(), prometheus.unwrap_or_default())
    };
    let expect = |http: &str, prometheus: &str| (http.to_owned(), prometheus.to_owned());
    assert_eq!(at(&[]), expect("127.0.0.1:8080", ""));
    assert_eq!(at(&[("PROMETHEUS_ADDRESS", "off")]), expect("127.0.0.1:8080", ""));
    assert_eq!(at(&[("PROMETHEUS_ADDRESS", "10.0.0.5:8080")]), expect("127.0.0.1:8080", "10.0.0.5:8080/metrics"));
    assert_eq!(at(&[("PROMETHEUS_ADDRESS", ":8080")]), expect("0.0.0.0:8080", "0.0.0.0:8080/metrics"));
    let another = [("PROMETHEUS_ADDRESS", ":9100"), ("PROMETHEUS_ENDPOINT", "/prom")];
    assert_eq!(at(&another), expect("127.0.0.1:8080", "0.0.0.0:9100/prom"));
    let same = [("HTTP_ADDRESS", ":9100"), another[0], another[1]];
    assert_eq!(at(&same), expect("0.0.0.0:9100", "0.0.0.0:9100/prom"));
    let free = [("HTTP_ADDRESS", "127.0.0.1:0"), ("PROMETHEUS_ADDRESS", "127.0.0.1:0")];
    assert_eq!(at(&free), expect("127.0.0.1:0", "127.0.0.1:0/metrics"));
}

#[test]
fn the_log_is_filtered_by_level_and_module() {
    let log = good(&[("LOG_LEVEL", "WARN, optic::discord=debug"), ("LOG_FORMAT", "json")]).log;
    assert_eq!(log, Log { filter: "warn,optic::discord=debug".to_owned(), format: LogFormat::Json });
}

#[test]
fn a_command_that_looks_at_rabbitmq_needs_no_token() {
    let vars = [AMQP, ("BROKER_GROUP", "bots"), ("DISCORD_SHARD_COUNT", "broken")];
    let vars = vars.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let (access, _) = BrokerAccess::from_vars(vars, files).expect("good");
    assert_eq!(access.url.expect("a URL").to_string(), "amqp://***@mq:5672/vhost");
    assert_eq!(access.group.as_str(), "bots");
}

#[test]
fn a_configuration_prints_without_its_secrets() {
    let text = format!("{:?}", good(&[AMQP]));
    assert!(!text.contains("hunter2") && !text.contains(TOKEN.1), "{text}");
}

#[test]
fn a_singyeong_server_has_its_address_its_password_and_its_limits() {
    let on = ("SINGYEONG_ADDRESS", "127.0.0.1:4000");
    let plain = good(&[AMQP, on]).singyeong.expect("a server");
    assert_eq!((plain.auth, plain.limits), (None, crate::singyeong::limits::Limits::default()));
    let set = good(&[
        AMQP,
        ("SINGYEONG_ADDRESS", ":4000"),
        ("SINGYEONG_AUTH_FILE", "/run/secrets/token"),
        ("SINGYEONG_PROXY_ALLOW", "10.0.0.0/8, ::1"),
        ("SINGYEONG_ACK_TIMEOUT", "2s"),
        ("SINGYEONG_MAX_MESSAGE", "64k"),
    ]);
    let set = set.singyeong.expect("a server");
    assert_eq!(set.address.to_string(), "0.0.0.0:4000");
    assert_eq!(set.auth.as_ref().map(Secret::expose), Some("from.a.file"));
    assert_eq!(set.proxy_allow.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8", "::1/128"]);
    assert_eq!((set.limits.acknowledgement, set.limits.message), (Duration::from_secs(2), 65_536));
    assert_eq!(good(&[AMQP, ("SINGYEONG_ADDRESS", "off")]).singyeong, None);
    // Without a token there is no bot, and that is no mistake.
    let (alone, warnings) = read(&[AMQP, on]).expect("good");
    assert!(alone.discord.is_none() && warnings.is_empty(), "{warnings:?}");
    let (_, warnings) = read(&[AMQP, on, ("DISCORD_SHARD_COUNT", "2")]).expect("good");
    assert_eq!(warnings[0].to_string(), "DISCORD_SHARD_COUNT: has no effect: without DISCORD_TOKEN no shard runs");
}
