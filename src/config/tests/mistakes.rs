//! Broken configurations against their messages.

use super::*;

const RULE: &str = r#"{"target":{"application":"worker"},"events":["MESSAGE_CREATE"]}"#;

#[test]
fn a_presence_that_makes_the_identify_too_long_is_a_mistake() {
    let name = "x".repeat(4096);
    let text = format!(r#"{{"activities":[{{"name":"{name}","type":0}}]}}"#);
    let [line] = &mistakes(&[("DISCORD_PRESENCE", &text)])[..] else { panic!("one mistake") };
    assert!(line.ends_with(" bytes, and Discord takes at most 4096; make it shorter"), "{line}");
    assert!(bot(&good(&[("DISCORD_PRESENCE", &text.replace(&name, "x"))])).presence.is_some());
}

#[test]
fn a_mistake_names_its_variable_what_was_given_and_what_to_write() {
    const LEASED: (&str, &str) = ("CLUSTER_MODE", "leased");
    const LONG_NODE: &str = "a-name-of-65-bytes-which-is-one-more-than-there-is-room-for-12345";
    const ID_FORM: &str = "write numbers and ranges such as 0,1,4-7";
    const PRESENCE_FORM: &str = r#"write such as {"status":"online","activities":[{"name":"chess","type":0}]}"#;
    const URL_FORM: &str = "write amqp://user:password@host:5672/vhost, or amqps:// for TLS";
    const ESCAPES: &str = "write reserved characters of user, password and vhost as escapes: @ is %40, : is %3A, / is \
                           %2F, # is %23, ? is %3F, % is %25, a space is %20";
    let table: &[(Pairs, String)] = &[
        (
            &[("DISCORD_EVENTS", "auto,MESSAGE_CREATE")],
            "DISCORD_EVENTS=\"auto,MESSAGE_CREATE\": auto stands beside names; write auto alone, or only names".into(),
        ),
        (
            &[("SINGYEONG_ADDRESS", "127.0.0.1:4000")],
            "SINGYEONG_ADDRESS=\"127.0.0.1:4000\": its clients' messages are kept in RabbitMQ, and there is none with \
             BROKER_TYPE=stdio; set AMQP_URL, or unset SINGYEONG_ADDRESS"
                .into(),
        ),
        (
            &[AMQP, ("SINGYEONG_ADDRESS", "4000")],
            "SINGYEONG_ADDRESS=\"4000\": it is a port without an IP address; write 127.0.0.1:4000 for this machine alone, or \
             0.0.0.0:4000 for everybody"
                .into(),
        ),
        (
            &[AMQP, ("SINGYEONG_ADDRESS", "[::1]:1"), ("SINGYEONG_PROXY_ALLOW", "10.0.0.0/33")],
            "SINGYEONG_PROXY_ALLOW=\"10.0.0.0/33\": \"10.0.0.0/33\" is no network; write such as \
             10.0.0.0/8,127.0.0.1,fd00::/8"
                .into(),
        ),
        (
            &[AMQP, ("SINGYEONG_ADDRESS", "[::1]:1"), ("SINGYEONG_ACK_TIMEOUT", "2 weeks")],
            "SINGYEONG_ACK_TIMEOUT=\"2 weeks\": not a time that it can have; write one from 100ms to 25m, such as 15s".into(),
        ),
        (
            &[AMQP, ("SINGYEONG_ADDRESS", "[::1]:1"), ("SINGYEONG_MAX_MESSAGE", "1")],
            "SINGYEONG_MAX_MESSAGE=\"1\": not a number of bytes that it can have; write one from 1024 to 134217728, such as \
             65536, 64k or 4m"
                .into(),
        ),
        (
            &[("DISCORD_EVENTS", "MESSAGE-CREATE")],
            "DISCORD_EVENTS=\"MESSAGE-CREATE\": \"MESSAGE-CREATE\" cannot be an event's name (did you mean MESSAGE_CREATE?); \
             write names such as MESSAGE_CREATE, separated by commas"
                .into(),
        ),
        (
            &[("DISCORD_EVENTS", ",")],
            "DISCORD_EVENTS=\",\": no event is named; write names such as MESSAGE_CREATE,GUILD_CREATE, or auto".into(),
        ),
        (
            &[("DISCORD_INTENTS", "GUILD,GUILD_MESSAGES,NONSENSE")],
            "DISCORD_INTENTS=\"GUILD,GUILD_MESSAGES,NONSENSE\": no such intent: GUILD (did you mean GUILDS?), NONSENSE; write \
             Discord's names, such as GUILDS,GUILD_MESSAGES, or a number"
                .into(),
        ),
        (
            &[("DISCORD_RAW_INTENTS", "-1")],
            "DISCORD_RAW_INTENTS=\"-1\": not a number of intents; write the sum of the bits, such as 513".into(),
        ),
        (
            &[("DISCORD_SHARD_COUNT", "-2")],
            "DISCORD_SHARD_COUNT=\"-2\": not a number that it can have; write one from 1 to 65536".into(),
        ),
        (
            &[("DISCORD_SHARD_COUNT", "4000000000")],
            "DISCORD_SHARD_COUNT=\"4000000000\": not a number that it can have; write one from 1 to 65536".into(),
        ),
        (
            &[("DISCORD_SHARD_COUNT", "8"), ("DISCORD_SHARD_IDS", "0,8")],
            "DISCORD_SHARD_IDS=\"0,8\": there is no shard 8 among 8; write numbers from 0 to 7".into(),
        ),
        (
            &[("DISCORD_SHARD_IDS", "0-4294967295")],
            "DISCORD_SHARD_IDS=\"0-4294967295\": there is no shard 4294967295 among 65536; write numbers from 0 to 65535".into(),
        ),
        (
            &[("DISCORD_SHARD_COUNT", "8"), ("DISCORD_SHARD_IDS", "7-4")],
            "DISCORD_SHARD_IDS=\"7-4\": the range 7-4 runs backwards; write 4-7".into(),
        ),
        (
            &[("DISCORD_SHARD_COUNT", "8"), ("DISCORD_SHARD_IDS", "0..3")],
            format!("DISCORD_SHARD_IDS=\"0..3\": \"0..3\" is neither a shard's number nor a range; {ID_FORM}"),
        ),
        (
            &[("DISCORD_SHARD_COUNT", "8"), ("DISCORD_SHARD_IDS", ",")],
            format!("DISCORD_SHARD_IDS=\",\": no shard is named; {ID_FORM}, or unset it"),
        ),
        (
            &[("DISCORD_PRESENCE", "{status:online}")],
            format!(
                "DISCORD_PRESENCE=\"{{status:online}}\": not JSON: key must be a string at line 1 column 2; {PRESENCE_FORM}"
            ),
        ),
        (
            &[("DISCORD_PRESENCE", "[]")],
            format!("DISCORD_PRESENCE=\"[]\": not an object; {PRESENCE_FORM}"),
        ),
        (
            &[("DISCORD_PRESENCE", r#"{"status":"busy"}"#)],
            format!(
                "DISCORD_PRESENCE=\"{{\\\"status\\\":\\\"busy\\\"}}\": status is \"busy\", not one of online, dnd, idle, \
                 invisible, offline; {PRESENCE_FORM}"
            ),
        ),
        (
            &[("DISCORD_PRESENCE", r#"{"activities":[{"name":"x"}]}"#)],
            format!(
                "DISCORD_PRESENCE=\"{{\\\"activities\\\":[{{\\\"name\\\":\\\"x\\\"}}]}}\": activity 0 has no type: 0 playing, 1 \
                 streaming, 2 listening, 3 watching, 4 custom, 5 competing; {PRESENCE_FORM}"
            ),
        ),
        (
            &[("DISCORD_LARGE_THRESHOLD", "251")],
            "DISCORD_LARGE_THRESHOLD=\"251\": not a number that it can have; write one from 50 to 250".into(),
        ),
        (
            &[("DISCORD_API_VERSION", "6")],
            "DISCORD_API_VERSION=\"6\": not a number that it can have; write one from 9 to 10".into(),
        ),
        (
            &[("DISCORD_API_PROTOCOL", "ftp")],
            "DISCORD_API_PROTOCOL=\"ftp\": not known; write https or http".into(),
        ),
        (
            &[("DISCORD_API_HOST", "https://proxy:3000/api/v10")],
            "DISCORD_API_HOST=\"https://proxy:3000/api/v10\": not a host, or a host and a port, alone; write such as proxy:3000"
                .into(),
        ),
        (
            &[("DISCORD_API_HOST", "localhost:port")],
            "DISCORD_API_HOST=\"localhost:port\": not a host, or a host and a port, alone; write such as discord.com or \
             localhost:8081"
                .into(),
        ),
        (
            &[("DISCORD_ENCODING", "msgpack")],
            "DISCORD_ENCODING=\"msgpack\": not known; write json or etf".into(),
        ),
        (
            &[AMQP, ("BROKER_ENCODING", "bson")],
            "BROKER_ENCODING=\"bson\": not known; write json or etf or msgpack or msgpack-text".into(),
        ),
        (
            &[("HTTP_TOKEN", "two words")],
            "HTTP_TOKEN (not shown): it has a character that no header can carry; write letters and digits, such as \
             `openssl rand -hex 32` prints"
                .into(),
        ),
        (
            &[AMQP, ("FORWARDING", "rules.yml")],
            "FORWARDING=\"rules.yml\": the file cannot be read: no such file; name a file with rules, or write \
             [{\"type\":\"send\",\"target\":{\"application\":\"worker\"},\"events\":[\"MESSAGE_CREATE\"]}]"
                .into(),
        ),
        (
            &[("FORWARDING", RULE)],
            format!(
                "FORWARDING={RULE:?}: events to be forwarded wait in RabbitMQ, so that none is lost, and AMQP_URL is not \
                 set; set AMQP_URL, or unset FORWARDING"
            ),
        ),
        (
            &[AMQP, ("FORWARDING", RULE), ("SINGYEONG_DSN", "redis://:hunter2@localhost")],
            "SINGYEONG_DSN (not shown): it begins neither with singyeong:// nor with ssingyeong:// (with TLS); write \
             singyeong://application:password@host:port/?encoding=json, or ssingyeong:// for TLS"
                .into(),
        ),
        (
            &[("AMYBOT_SHARD_COUNT", "8")],
            "AMYBOT_SHARD_COUNT=\"8\": services are known to each other through RabbitMQ, and there is none with \
             BROKER_TYPE=stdio; set AMQP_URL, or unset AMYBOT_SHARD_COUNT"
                .into(),
        ),
        (
            &[("DISCORD_COMPRESSION", "gzip")],
            "DISCORD_COMPRESSION=\"gzip\": not known; write zlib-stream or zstd-stream or none".into(),
        ),
        (
            &[("BROKER_TYPE", "redis")],
            "BROKER_TYPE=\"redis\": Optic needs no Redis and has none; write amqp and set AMQP_URL".into(),
        ),
        (&[("BROKER_TYPE", "kafka")], "BROKER_TYPE=\"kafka\": not known; write amqp or stdio".into()),
        (
            &[("BROKER_TYPE", "amqp")],
            "AMQP_URL is not set: BROKER_TYPE=amqp has to know where RabbitMQ is; set it to \
             amqp://user:password@host:5672/vhost, or AMQP_URL_FILE to a file with it"
                .into(),
        ),
        (
            &[AMQP, ("BROKER_GROUP", "amq.topic")],
            "BROKER_GROUP=\"amq.topic\": RabbitMQ keeps names that begin with amq. to itself; write a short name such as gateway"
                .into(),
        ),
        (
            &[AMQP, ("BROKER_GROUP", "my gateway")],
            "BROKER_GROUP=\"my gateway\": it has white space in it; write a short name such as gateway".into(),
        ),
        (
            &[AMQP, ("BROKER_MESSAGE_TIMEOUT", "2 minutes")],
            "BROKER_MESSAGE_TIMEOUT=\"2 minutes\": not a duration; write such as 2m, 30s, 500ms or 1h30m".into(),
        ),
        (
            &[AMQP, ("BROKER_MESSAGE_TIMEOUT", "0s")],
            "BROKER_MESSAGE_TIMEOUT=\"0s\": events would be dropped at once; write a longer time, or unset it so that events \
             never expire"
                .into(),
        ),
        (
            &[AMQP, ("BROKER_MESSAGE_TIMEOUT", "60d")],
            "BROKER_MESSAGE_TIMEOUT=\"60d\": longer than RabbitMQ counts; write at most 49d, or unset it".into(),
        ),
        (
            &[AMQP, ("BROKER_PERSISTENT", "maybe")],
            "BROKER_PERSISTENT=\"maybe\": neither yes nor no; write true or false".into(),
        ),
        (
            &[AMQP, ("BROKER_DECLARE", ":MESSAGE_CREATE")],
            "BROKER_DECLARE=\":MESSAGE_CREATE\": \":MESSAGE_CREATE\" is no queue; write EVENT or subgroup:EVENT".into(),
        ),
        (&[("AMQP_URL", "mq:5672")], format!("AMQP_URL (not shown): it has no amqp:// before the host; {URL_FORM}")),
        (
            &[("AMQP_URL", "http://mq:15672")],
            format!("AMQP_URL (not shown): http is for RabbitMQ's management page, and amqp for events; {URL_FORM}"),
        ),
        (&[("AMQP_URL", "amqp:///vhost")], format!("AMQP_URL (not shown): it has no host; {URL_FORM}")),
        (
            &[("AMQP_URL", "amqp://user:hun#ter2@mq")],
            format!("AMQP_URL (not shown): its user or password has a reserved character in it; {ESCAPES}"),
        ),
        (
            &[("AMQP_URL", "amqp://user:12/34@mq")],
            format!("AMQP_URL (not shown): its user or password has a reserved character in it; {ESCAPES}"),
        ),
        (&[("AMQP_URL", "amqp://mq//a/b")], format!("AMQP_URL (not shown): its vhost has a / in it; {ESCAPES}")),
        (
            &[("SHARD_STORE_TYPE", "redis")],
            "SHARD_STORE_TYPE=\"redis\": Optic needs no Redis and has none; write amqp, or unset it".into(),
        ),
        (
            &[("SHARD_STORE_TYPE", "amqp")],
            "SHARD_STORE_TYPE=\"amqp\": there is no RabbitMQ with BROKER_TYPE=stdio; write file or memory".into(),
        ),
        (
            &[AMQP, ("SHARD_STORE_PREFIX", "a:b")],
            "SHARD_STORE_PREFIX=\"a:b\": it cannot be a part of a queue's name; write at most 64 letters, digits, dots or dashes"
                .into(),
        ),
        (
            &[("CLUSTER_ID", "4"), ("CLUSTER_COUNT", "4"), ("CLUSTER_SHARDS", "2")],
            "CLUSTER_ID=\"4\": not a number that it can have; write one from 0 to 3".into(),
        ),
        (
            &[("CLUSTER_ID", "0"), ("CLUSTER_COUNT", "4")],
            "CLUSTER_SHARDS is not set: CLUSTER_ID, CLUSTER_COUNT and CLUSTER_SHARDS go together; set all three, or none \
             (--cluster NUMBER sets CLUSTER_ID; in sinGateway's file, with clustering.enabled, clusterCount and \
             clusterShards are the others)"
                .into(),
        ),
        (
            &[("CLUSTER_ID", "0"), ("CLUSTER_COUNT", "60000"), ("CLUSTER_SHARDS", "60000")],
            "CLUSTER_SHARDS=\"60000\": 60000 clusters of 60000 are more than 65536 shards; write fewer shards or fewer clusters"
                .into(),
        ),
        (
            &[("CLUSTER_ID", "0"), ("CLUSTER_COUNT", "1"), ("CLUSTER_SHARDS", "2"), ("DISCORD_SHARD_COUNT", "2")],
            "DISCORD_SHARD_COUNT=\"2\": CLUSTER_ID, CLUSTER_COUNT and CLUSTER_SHARDS already say which shards to run; unset it, or \
             those three"
                .into(),
        ),
        (&[("CLUSTER_MODE", "auto")], "CLUSTER_MODE=\"auto\": not known; write static or leased".into()),
        (
            &[LEASED],
            "CLUSTER_MODE=\"leased\": shards are shared through RabbitMQ, and there is none with BROKER_TYPE=stdio; set AMQP_URL \
             and BROKER_TYPE=amqp, or unset CLUSTER_MODE"
                .into(),
        ),
        (
            &[AMQP, LEASED, ("SHARD_STORE_TYPE", "memory")],
            "SHARD_STORE_TYPE=\"memory\": with CLUSTER_MODE=leased a shard moves to other processes, and each resumes it from \
             RabbitMQ; write amqp, or unset it"
                .into(),
        ),
        (
            &[AMQP, LEASED, ("DISCORD_SHARD_COUNT", "8"), ("DISCORD_SHARD_IDS", "0-3")],
            "DISCORD_SHARD_IDS=\"0-3\": with CLUSTER_MODE=leased the processes share the shards out among themselves; unset it, \
             or set CLUSTER_MODE=static"
                .into(),
        ),
        (
            &[AMQP, ("CLUSTER_NODE", "web 1")],
            "CLUSTER_NODE=\"web 1\": it has white space in it; write a short name such as web-1".into(),
        ),
        (
            &[AMQP, ("CLUSTER_NODE", LONG_NODE)],
            format!("CLUSTER_NODE={LONG_NODE:?}: it has 65 bytes; write at most 64 bytes"),
        ),
        (
            &[("HTTP_ADDRESS", "here")],
            "HTTP_ADDRESS=\"here\": not an IP address with a port; write such as 127.0.0.1:8080, 0.0.0.0:8080 or off".into(),
        ),
        (
            &[("HTTP_READERS", "everybody")],
            "HTTP_READERS=\"everybody\": not known; write loopback or token".into(),
        ),
        (
            &[("HTTP_READERS", "token")],
            "HTTP_READERS=\"token\": HTTP_TOKEN is not set, and nobody could read; set HTTP_TOKEN, such as `openssl rand -hex \
             32` prints, or write loopback"
                .into(),
        ),
        (
            &[("PROMETHEUS_ADDRESS", "metrics")],
            "PROMETHEUS_ADDRESS=\"metrics\": not an IP address with a port; write such as 127.0.0.1:8080, 0.0.0.0:8080 or off"
                .into(),
        ),
        (
            &[("HTTP_ADDRESS", "127.0.0.1:9100"), ("PROMETHEUS_ADDRESS", ":9100")],
            "PROMETHEUS_ADDRESS=\":9100\": HTTP_ADDRESS has this port, at another address; write the same address, or another \
             port"
                .into(),
        ),
        (
            &[("HTTP_ADDRESS", ":9100"), ("PROMETHEUS_ADDRESS", ":9100"), ("PROMETHEUS_ENDPOINT", "/health/live")],
            "PROMETHEUS_ENDPOINT=\"/health/live\": something else is there, at the address that HTTP_ADDRESS has too; write \
             such as /metrics"
                .into(),
        ),
        (
            &[("PROMETHEUS_ADDRESS", ":9100"), ("PROMETHEUS_ENDPOINT", "metrics")],
            "PROMETHEUS_ENDPOINT=\"metrics\": it does not begin with a slash; write such as /metrics".into(),
        ),
        (
            &[("PROMETHEUS_ADDRESS", ":9100"), ("PROMETHEUS_ENDPOINT", "/a b")],
            "PROMETHEUS_ENDPOINT=\"/a b\": it has characters in it that no path has; write such as /metrics".into(),
        ),
        (
            &[("LOG_LEVEL", "verbose")],
            "LOG_LEVEL=\"verbose\": \"verbose\" is no level (did you mean debug?); write error, warn, info, debug, trace or off, or by module: \
             info,optic::discord=debug"
                .into(),
        ),
        (&[("LOG_FORMAT", "xml")], "LOG_FORMAT=\"xml\": not known; write text or json".into()),
    ];
    for (vars, expected) in table {
        assert_eq!(mistakes(vars), [expected.as_str()], "{vars:?}");
    }
}

#[test]
fn a_token_that_cannot_be_one_is_explained_and_never_shown() {
    const COPY: &str = "copy the token anew from Discord's developer portal, page \"Bot\"";
    for (token, expected) in [
        ("\"MTk4.hunter2.x\"", "it stands in quotes, and they count as part of it; write it without".to_owned()),
        ("Bearer MTk4.hunter2", format!("a Bearer token is a user's, and the gateway is for bots; {COPY}")),
        ("MTk4 hunter2", format!("it has a space, tab or line break in it; {COPY}")),
        ("MTk4.hunter2\n", "it has white space around it, and that counts as part of it; write it without".to_owned()),
        ("MTk4.hunter2.é", format!("it has a character that no token has; {COPY}")),
    ] {
        let errors = read(&[("DISCORD_TOKEN", token)]).expect_err("a broken token");
        assert_eq!(lines(errors.clone()), [format!("DISCORD_TOKEN (not shown): {expected}")]);
        assert!(!format!("{errors} {errors:?}").contains("hunter2"));
    }
    assert!(lines(read(&[]).expect_err("no token"))[0].starts_with("DISCORD_TOKEN is not set: no shard can run"));
}

#[test]
fn a_cluster_by_numbers_does_not_go_with_leases() {
    let vars = [AMQP, ("CLUSTER_MODE", "leased"), ("CLUSTER_ID", "0"), ("CLUSTER_COUNT", "2"), ("CLUSTER_SHARDS", "4")];
    let problem = "with CLUSTER_MODE=leased the processes share the shards out among themselves; unset it, or set \
                   CLUSTER_MODE=static";
    let expected = [("CLUSTER_ID", 0), ("CLUSTER_COUNT", 2), ("CLUSTER_SHARDS", 4)]
        .map(|(name, given)| format!("{name}=\"{given}\": {problem}"));
    assert_eq!(mistakes(&vars), expected);
    let alone = [AMQP, ("CLUSTER_MODE", "leased"), ("CLUSTER_ID", "0"), ("DISCORD_SHARD_COUNT", "x")];
    let count = "DISCORD_SHARD_COUNT=\"x\": not a number that it can have; write one from 1 to 65536";
    assert_eq!(mistakes(&alone), [expected[0].as_str(), count]);
}

#[test]
fn a_broken_address_of_rabbitmq_is_told_alone() {
    for vars in [
        &[("AMQP_URL", "mq:5672"), ("CLUSTER_MODE", "leased")][..],
        &[("BROKER_TYPE", "amqp"), ("CLUSTER_MODE", "leased")],
    ] {
        let [line] = &mistakes(vars)[..] else { panic!("one mistake of {vars:?}") };
        assert!(line.starts_with("AMQP_URL"), "{line}");
    }
}

#[test]
fn every_mistake_is_reported_at_once() {
    let errors = read(&[
        ("DISCORD_INTENTS", "NONSENSE"),
        ("DISCORD_SHARD_COUNT", "x"),
        ("DISCORD_SHARD_IDS", "0,1"),
        ("BROKER_TYPE", "amqp"),
        ("HTTP_ADDRESS", "nowhere"),
        ("DISCORD_TOKENS", "x"),
    ])
    .expect_err("mistakes");
    let named: Vec<&str> = errors.mistakes.iter().map(|mistake| mistake.variable.as_str()).collect();
    assert_eq!(named, ["DISCORD_TOKEN", "DISCORD_INTENTS", "DISCORD_SHARD_COUNT", "AMQP_URL", "HTTP_ADDRESS"]);
    let text = errors.to_string();
    assert!(text.starts_with("the configuration has 5 mistakes:\n  DISCORD_TOKEN is not set"), "{text}");
    assert!(
        text.ends_with("(warning) DISCORD_TOKENS: not a variable of Optic, and not read; did you mean DISCORD_TOKEN?")
    );
}

#[test]
fn a_secrets_file_that_does_not_serve_is_reported_once() {
    for (vars, expected) in [
        (
            &[("DISCORD_TOKEN_FILE", "/nowhere")][..],
            "DISCORD_TOKEN_FILE=\"/nowhere\": the file cannot be read: no such file; name a file with the value in it and \
             nothing else",
        ),
        (
            &[("DISCORD_TOKEN_FILE", "/run/secrets/empty")],
            "DISCORD_TOKEN_FILE=\"/run/secrets/empty\": the file is empty; name a file with the value in it and nothing else",
        ),
        (
            &[TOKEN, ("DISCORD_TOKEN_FILE", "/run/secrets/token")],
            "DISCORD_TOKEN_FILE=\"/run/secrets/token\": DISCORD_TOKEN is set too, and only one of them can hold; unset one of \
             them",
        ),
        (
            &[TOKEN, ("AMQP_URL_FILE", "/nowhere")],
            "AMQP_URL_FILE=\"/nowhere\": the file cannot be read: no such file; name a file with the value in it and nothing \
             else",
        ),
    ] {
        assert_eq!(lines(read(vars).expect_err("a file that does not serve")), [expected]);
    }
}
