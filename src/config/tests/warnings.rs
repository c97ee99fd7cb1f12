//! What is doubtful, and what is none of ours.

use super::*;

#[test]
fn ids_without_a_count_hold_among_what_discord_advises() {
    let (config, warnings) = with_warnings(&[("DISCORD_SHARD_IDS", "0,2")]);
    assert_eq!(shards(&config, 3), [(0, 3), (2, 3)]);
    assert_eq!(bot(&config).shards.shards(2), Err(NoSuchShard { id: ShardId::new(2), count: 2 }));
    assert!(warnings[0].ends_with("set DISCORD_SHARD_COUNT"), "{warnings:?}");
}

#[test]
fn what_is_doubtful_is_warned_about_and_kept() {
    for (vars, expected) in [
        (
            &[("DISCORD_EVENTS", "MESSAGE_CRAETE")][..],
            "DISCORD_EVENTS: MESSAGE_CRAETE is no event that Discord documents (did you mean MESSAGE_CREATE?); it is kept as it is",
        ),
        (
            &[("DISCORD_EVENTS", "SOMETHING_NEW")],
            "DISCORD_EVENTS: SOMETHING_NEW is no event that Discord documents; it is kept as it is",
        ),
        (
            &[("DISCORD_EVENTS", "GUILD_MEMBER_ADD"), ("DISCORD_INTENTS", "GUILDS")],
            "DISCORD_EVENTS: GUILD_MEMBER_ADD never comes: none of the intents brings it, which GUILD_MEMBERS does",
        ),
        (
            &[("DISCORD_RAW_INTENTS", "513"), ("DISCORD_INTENTS", "GUILDS")],
            "DISCORD_RAW_INTENTS: goes before DISCORD_INTENTS, which has no effect: GUILDS | GUILD_MESSAGES",
        ),
        (
            &[("DISCORD_RAW_INTENTS", "1073741824")],
            "DISCORD_RAW_INTENTS: has bits that no documented intent has, 0x40000000; Discord may refuse them (4013)",
        ),
        (
            &[("DISCORD_PRESENCE", r#"{"mood":"fine"}"#)],
            "DISCORD_PRESENCE: mood is no field that Discord documents for a presence",
        ),
        (
            &[AMQP, ("DISCORD_EVENTS", "GUILD_CREATE"), ("BROKER_DECLARE", "GUILD_DELETE")],
            "BROKER_DECLARE: the queue of GUILD_DELETE stays empty: DISCORD_EVENTS does not list it",
        ),
        (
            &[AMQP, ("BROKER_GROUP", "a:b")],
            "BROKER_GROUP: a colon also divides group, subgroup and event: two groups may come to share a queue",
        ),
        (
            &[("BROKER_GROUP", "bots")],
            "BROKER_GROUP: has no effect: events go to standard output, since BROKER_TYPE is stdio",
        ),
        (&[("SHARD_STORE_PREFIX", "x")], "SHARD_STORE_PREFIX: has no effect: sessions are kept in memory alone"),
        (
            &[("DISCORD_API_PROTOCOL", "http")],
            "DISCORD_API_PROTOCOL: http sends the token to discord.com for everyone on the way to read",
        ),
        (
            &[("PROMETHEUS_ENDPOINT", "/prom")],
            "PROMETHEUS_ENDPOINT: has no effect without PROMETHEUS_ADDRESS; at HTTP_ADDRESS the metrics are at /metrics",
        ),
        (
            &[("PROMETHEUS_ADDRESS", ":8080")],
            "PROMETHEUS_ADDRESS: HTTP_ADDRESS is not set and would have this port: health and the page are served there too; \
             set HTTP_ADDRESS to part them",
        ),
        (
            &[("BROKER_ENCODING", "msgpack")],
            "BROKER_ENCODING: has no effect: events go to standard output, since BROKER_TYPE is stdio",
        ),
        (
            &[("SINGYEONG_DSN", "singyeong://app@host")],
            "SINGYEONG_DSN: has no effect: FORWARDING lists no events to forward",
        ),
        (
            &[AMQP, ("FORWARDING", r#"{"target":{"application":"worker"},"events":["MESSAGE_CREATE"]}"#)],
            "FORWARDING: nobody is here to forward to: set SINGYEONG_DSN or SINGYEONG_ADDRESS, unless another process of \
             the group serves 신경",
        ),
        (
            &[
                AMQP,
                ("FORWARDING", r#"{"target":{"application":"worker"},"events":["MESSAGE_CREATE"]}"#),
                ("SINGYEONG_ADDRESS", "127.0.0.1:4567"),
                ("SINGYEONG_DSN", "singyeong://gateway@localhost:4567"),
            ],
            "SINGYEONG_DSN: names this process's own 신경 server: events are forwarded to that, without a connection",
        ),
        (
            &[
                AMQP,
                ("SINGYEONG_ADDRESS", "127.0.0.1:4567"),
                ("SINGYEONG_AUTH", "x"),
                ("AMYBOT_ADDRESS", "127.0.0.1:4567"),
            ],
            "AMYBOT_ADDRESS: shares 신경's port, and its services need no password, whatever SINGYEONG_AUTH says",
        ),
        (&[("HTTP_TOKEN", "short")], "HTTP_TOKEN: it has less than 16 characters, and may be guessed"),
        (
            &[AMQP, ("AMYBOT_ADDRESS", ":4001")],
            "AMYBOT_ADDRESS: everybody who reaches this address is a service: keep it inside your own network",
        ),
        (&[("SINGYEONG_AUTH", "x")], "SINGYEONG_AUTH: has no effect: SINGYEONG_ADDRESS is not set"),
        (
            &[AMQP, ("SINGYEONG_ADDRESS", ":4000")],
            "SINGYEONG_ADDRESS: everybody who reaches this address may send commands to Discord and read queues: set \
             SINGYEONG_AUTH",
        ),
        (
            &[("DISCORD_SHARD_COUNT", "8"), ("DISCORD_SHARD_IDS", "1,0-1")],
            "DISCORD_SHARD_IDS: shard 1 is named twice; it runs once",
        ),
        (
            &[("DISCORD_SHARD_COUNT", "8"), ("DISCORD_SHARD_IDS", "0-6,2-5,4")],
            "DISCORD_SHARD_IDS: 4 shards from 2 on are named twice; each runs once",
        ),
        (
            &[("CLUSTER_NODE", "web-1")],
            "CLUSTER_NODE: has no effect: events go to standard output, since BROKER_TYPE is stdio",
        ),
        (&[("DISCORD_GATEWAY_VERSION", "10")], "DISCORD_GATEWAY_VERSION: not read; set DISCORD_API_VERSION"),
        (&[("BROKER_GRUOP", "x")], "BROKER_GRUOP: not a variable of Optic, and not read; did you mean BROKER_GROUP?"),
        (
            &[("discord_events", "x")],
            "discord_events: not a variable of Optic, and not read; did you mean DISCORD_EVENTS?",
        ),
        (
            &[("AMQP_URL_FLIE", "x")],
            "AMQP_URL_FLIE: not a variable of Optic, and not read; did you mean AMQP_URL_FILE?",
        ),
    ] {
        assert_eq!(with_warnings(vars).1, [expected], "{vars:?}");
    }
}

#[test]
fn what_is_not_meant_for_optic_is_passed_over() {
    let vars = [("HTTP_PROXY", "x"), ("DISCORD_CLIENT_ID", "1"), ("PATH", "/bin"), ("CLUSTER_MODE", "static")];
    assert_eq!(with_warnings(&vars).1, [""; 0]);
}

#[test]
fn a_token_with_bot_before_it_loses_it() {
    let (config, warnings) = read(&[("DISCORD_TOKEN", "Bot a.b.c")]).expect("a good configuration");
    assert_eq!(bot(&config).token.expose(), "a.b.c");
    assert!(warnings[0].to_string().starts_with("DISCORD_TOKEN: begins with \"Bot \""), "{warnings:?}");
}

#[test]
fn only_for_discord_itself_a_token_has_to_look_like_one() {
    let odd = ("DISCORD_TOKEN", "simulated");
    assert_eq!(read(&[odd, ("DISCORD_API_HOST", "localhost:8081")]).expect("good").1, []);
    assert_eq!(read(&[odd]).expect("good").1.len(), 1);
}
