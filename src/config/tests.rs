//! spec/configuration.md, held: broken configurations against their messages, good ones against their values, and the
//! documentation against the table.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::discord::ids::{Shard, ShardId};
use crate::discord::intents::Intents;

type Pairs<'a> = &'a [(&'a str, &'a str)];

const TOKEN: (&str, &str) = ("DISCORD_TOKEN", "MTk4.Cl2FMQ.ZnCjm1");
const AMQP: (&str, &str) = ("AMQP_URL", "amqp://user:hunter2@mq:5672/vhost");

/// The files that a test has: a token with its line break, and an empty one.
fn files(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/run/secrets/token") => Ok("from.a.file\r\n".to_owned()),
        Some("/run/secrets/empty") => Ok("\n".to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    }
}

fn read(vars: Pairs) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    Config::from_vars(vars.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())), files)
}

/// The configuration of these and a token.
fn good(vars: Pairs) -> Config {
    with_warnings(vars).0
}

fn with_warnings(vars: Pairs) -> (Config, Vec<String>) {
    let (config, warnings) = read(&[&[TOKEN], vars].concat()).expect("a good configuration");
    (config, warnings.iter().map(Warning::to_string).collect())
}

/// The mistakes of these and a token, a line each.
fn mistakes(vars: Pairs) -> Vec<String> {
    lines(read(&[&[TOKEN], vars].concat()).expect_err("a broken configuration"))
}

fn lines(errors: ConfigErrors) -> Vec<String> {
    errors.mistakes.iter().map(Mistake::to_string).collect()
}

fn amqp(config: Config) -> Amqp {
    match config.broker {
        Broker::Amqp(amqp) => amqp,
        Broker::Stdio => panic!("not AMQP"),
    }
}

fn shards(config: &Config, advised: u32) -> Vec<(u32, u32)> {
    let shards = config.discord.shards.shards(advised).expect("shards");
    shards.into_iter().map(|shard: Shard| (shard.id().get(), shard.count())).collect()
}

fn listed(config: &Config) -> BTreeSet<&str> {
    match &config.discord.events {
        EventFilter::Listed(names) => names.iter().map(String::as_str).collect(),
        EventFilter::Auto => panic!("auto"),
    }
}

#[test]
fn a_mistake_names_its_variable_what_was_given_and_what_to_write() {
    const ID_FORM: &str = "write numbers and ranges such as 0,1,4-7";
    const PRESENCE_FORM: &str = r#"write such as {"status":"online","activities":[{"name":"chess","type":0}]}"#;
    const URL_FORM: &str = "write amqp://user:password@host:5672/vhost, or amqps:// for TLS";
    const ESCAPES: &str = "write reserved characters of user, password and vhost as escapes: @ is %40, : is %3A, / is \
                           %2F, # is %23, ? is %3F, % is %25";
    let table: &[(Pairs, String)] = &[
        (
            &[("DISCORD_EVENTS", "auto,MESSAGE_CREATE")],
            "DISCORD_EVENTS=\"auto,MESSAGE_CREATE\": auto stands beside names; write auto alone, or only names".into(),
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
                "DISCORD_PRESENCE=\"{{\\\"activities\\\":[{{\\\"name\\\":\\\"x\\\"}}]}}\": activity 0 has no type from 0 to 5; \
                 {PRESENCE_FORM}"
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
            &[("DISCORD_ENCODING", "etf")],
            "DISCORD_ENCODING=\"etf\": this version of Optic does not have it; write json, or unset it".into(),
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
            format!("AMQP_URL (not shown): its scheme is neither amqp nor amqps; {URL_FORM}"),
        ),
        (&[("AMQP_URL", "amqp:///vhost")], format!("AMQP_URL (not shown): it has no host; {URL_FORM}")),
        (
            &[("AMQP_URL", "amqp://user:hun#ter2@mq")],
            format!("AMQP_URL (not shown): its port is not a number; {ESCAPES}"),
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
            "CLUSTER_SHARDS is not set: CLUSTER_ID, CLUSTER_COUNT and CLUSTER_SHARDS go together; set all three, or none".into(),
        ),
        (
            &[("CLUSTER_ID", "0"), ("CLUSTER_COUNT", "60000"), ("CLUSTER_SHARDS", "60000")],
            "CLUSTER_SHARDS=\"60000\": 60000 clusters of 60000 are more than 65536 shards; write fewer shards or fewer clusters"
                .into(),
        ),
        (
            &[("CLUSTER_ID", "0"), ("CLUSTER_COUNT", "1"), ("CLUSTER_SHARDS", "2"), ("DISCORD_SHARD_COUNT", "2")],
            "DISCORD_SHARD_COUNT=\"2\": CLUSTER_* already says which shards to run; unset one or the other".into(),
        ),
        (
            &[("HTTP_ADDRESS", "8080")],
            "HTTP_ADDRESS=\"8080\": not an IP address with a port; write such as 127.0.0.1:8080, 0.0.0.0:8080 or off".into(),
        ),
        (
            &[("LOG_LEVEL", "verbose")],
            "LOG_LEVEL=\"verbose\": \"verbose\" is no level; write error, warn, info, debug, trace or off, or by module: \
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
        ("MTk4 hunter2", format!("it has a space, tab or line break in it or around it; {COPY}")),
        ("MTk4.hunter2\n", format!("it has a space, tab or line break in it or around it; {COPY}")),
        ("MTk4.hunter2.é", format!("it has a character that no token has; {COPY}")),
    ] {
        let errors = read(&[("DISCORD_TOKEN", token)]).expect_err("a broken token");
        assert_eq!(lines(errors.clone()), [format!("DISCORD_TOKEN (not shown): {expected}")]);
        assert!(!format!("{errors} {errors:?}").contains("hunter2"));
    }
    assert!(lines(read(&[]).expect_err("no token"))[0].starts_with("DISCORD_TOKEN is not set: no shard can run"));
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
fn secrets_come_from_files_without_their_line_break() {
    let (config, _) = read(&[("DISCORD_TOKEN_FILE", "/run/secrets/token")]).expect("a good configuration");
    assert_eq!(config.discord.token.expose(), "from.a.file");
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

#[test]
fn a_token_alone_is_enough() {
    let (config, warnings) = with_warnings(&[]);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.discord.token.expose(), TOKEN.1);
    assert_eq!(config.discord.events, EventFilter::Auto);
    assert_eq!(config.discord.intents.intents(), Intents::ALL.without(Intents::PRIVILEGED));
    assert_eq!(config.discord.intents.origin(), IntentOrigin::Unprivileged);
    assert_eq!(shards(&config, 3), [(0, 3), (1, 3), (2, 3)]);
    assert_eq!(config.discord.api.base_url(), "https://discord.com/api/v10");
    assert_eq!(config.discord.compression, Compression::ZlibStream);
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
fn ids_without_a_count_hold_among_what_discord_advises() {
    let (config, warnings) = with_warnings(&[("DISCORD_SHARD_IDS", "0,2")]);
    assert_eq!(shards(&config, 3), [(0, 3), (2, 3)]);
    assert_eq!(config.discord.shards.shards(2), Err(NoSuchShard { id: ShardId::new(2), count: 2 }));
    assert!(warnings[0].ends_with("set DISCORD_SHARD_COUNT"), "{warnings:?}");
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
        assert_eq!(config.discord.intents.intents(), expected, "{vars:?}");
        assert_eq!(config.discord.intents.origin(), IntentOrigin::Given);
        assert_eq!(config.discord.intents.notes(), ["intents, as set: GUILDS | GUILD_MESSAGES"]);
    }
    assert_eq!(good(&[("DISCORD_INTENTS", "GUILD_EMOJIS")]).discord.intents.intents(), Intents::GUILD_EXPRESSIONS);
    assert_eq!(good(&[("DISCORD_INTENTS", "0")]).discord.intents.intents(), Intents::NONE);
}

#[test]
fn intents_are_derived_from_the_events_and_the_log_says_so() {
    let config = good(&[("DISCORD_EVENTS", "message_create, GUILD_MEMBER_ADD")]);
    assert_eq!(listed(&config), BTreeSet::from(["GUILD_MEMBER_ADD", "MESSAGE_CREATE"]));
    assert_eq!(
        config.discord.intents.notes(),
        [
            "intents, derived from DISCORD_EVENTS: GUILD_MEMBERS | GUILD_MESSAGES | DIRECT_MESSAGES",
            "privileged, to be switched on in Discord's developer portal: GUILD_MEMBERS",
            "messages come without their content, but for direct messages and mentions: for all of it name every intent in \
             DISCORD_INTENTS, with MESSAGE_CONTENT, which is privileged",
        ]
    );
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
            &[("BROKER_ENCODING", "msgpack")],
            "BROKER_ENCODING: this version of Optic does not have it; it has no effect",
        ),
        (
            &[("SINGYEONG_AUTH_FILE", "/x")],
            "SINGYEONG_AUTH_FILE: this version of Optic does not have it; it has no effect",
        ),
        (&[("CLUSTER_MODE", "leased")], "CLUSTER_MODE: this version of Optic does not have it; it has no effect"),
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
    assert_eq!(config.discord.token.expose(), "a.b.c");
    assert!(warnings[0].to_string().starts_with("DISCORD_TOKEN: begins with \"Bot \""), "{warnings:?}");
}

#[test]
fn only_for_discord_itself_a_token_has_to_look_like_one() {
    let odd = ("DISCORD_TOKEN", "simulated");
    assert_eq!(read(&[odd, ("DISCORD_API_HOST", "localhost:8081")]).expect("good").1, []);
    assert_eq!(read(&[odd]).expect("good").1.len(), 1);
}

#[test]
fn the_api_is_where_it_is_said_to_be() {
    let api =
        good(&[("DISCORD_API_HOST", "[::1]:8081"), ("DISCORD_API_PROTOCOL", "HTTP"), ("DISCORD_API_VERSION", "v9")])
            .discord
            .api;
    assert_eq!(api.base_url(), "http://[::1]:8081/api/v9");
}

#[test]
fn the_presence_is_kept_as_it_was_given() {
    let text = r#"{ "status": "dnd", "since": null, "afk": false, "activities": [{"name":"x","type":1,"url":null}] }"#;
    let presence = good(&[("DISCORD_PRESENCE", text)]).discord.presence.expect("a presence");
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
fn the_documentation_has_every_variable_with_its_default_and_meaning() {
    let spec = include_str!("../../spec/configuration.md");
    let rows: Vec<&str> =
        spec.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 2).collect();
    let expected: Vec<String> = VARIABLES
        .iter()
        .map(|Variable { name, default, meaning, .. }| format!("| `{name}` | {default} | {meaning} |"))
        .collect();
    assert_eq!(rows, expected, "spec/configuration.md, \"Variables\"");
}

#[test]
fn the_example_has_every_variable_and_is_a_good_configuration() {
    let example = include_str!("../../.env.example");
    let all = example.lines().map(|line| line.strip_prefix("#").unwrap_or(line)).filter(|line| !line.starts_with(' '));
    let pairs = env_file::parse(&all.collect::<Vec<_>>().join("\n")).expect("pairs");
    let named: BTreeSet<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    let missing: Vec<&str> =
        VARIABLES.iter().map(|variable| variable.name).filter(|name| !named.contains(name)).collect();
    assert_eq!(missing, [""; 0], "not in .env.example");
    let known: BTreeSet<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    assert_eq!(named.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "unknown in .env.example");
    // As it stands, once the token is filled in.
    let mut set = env_file::parse(example).expect("pairs");
    set.iter_mut().filter(|(name, _)| name == "DISCORD_TOKEN").for_each(|(_, text)| *text = TOKEN.1.to_owned());
    let (_, warnings) = Config::from_vars(set, files).expect("a good configuration");
    assert_eq!(warnings, []);
    // With every line in, each can be what it is shown to be; only what excludes another is left out.
    let each = pairs.into_iter().filter(|(name, _)| !name.starts_with("CLUSTER_") && name != "DISCORD_TOKEN");
    let every = each.chain([(TOKEN.0.to_owned(), TOKEN.1.to_owned())]);
    Config::from_vars(every, files).expect("every line of .env.example is good");
}
