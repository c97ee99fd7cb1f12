//! `optic check` against configurations as newcomers write them: each gets the whole message that mends it, and no secret.
//!
//! What single variables are told is in src/config/tests/mistakes.rs; this is the program, with its files, as it is started.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const TOKEN: (&str, &str) = ("DISCORD_TOKEN", "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs");
const AMQP: (&str, &str) = ("AMQP_URL", "amqp://me:hunter2@mq:5672/bots");
const COPY: &str = "copy the token anew from Discord's developer portal, page \"Bot\"";
const URL: &str = "write amqp://user:password@host:5672/vhost, or amqps:// for TLS";
const ESCAPES: &str = "write reserved characters of user, password and vhost as escapes: @ is %40, : is %3A, / is %2F, # is \
                       %23, ? is %3F, % is %25, a space is %20";
const PRESENCE: &str = r#"write such as {"status":"online","activities":[{"name":"chess","type":0}]}"#;
const TYPES: &str = "0 playing, 1 streaming, 2 listening, 3 watching, 4 custom, 5 competing";
const RULES: &str = r#"write [{"type":"send","target":{"application":"worker"},"events":["MESSAGE_CREATE"]}]"#;
const NOBODY: &str = "FORWARDING: nobody is here to forward to: set SINGYEONG_DSN or SINGYEONG_ADDRESS, unless another process \
                      of the group serves 신경";
const NO_TOKEN: &str = "DISCORD_TOKEN is not set: no shard can run without the bot's token; set it, or DISCORD_TOKEN_FILE to a \
                        file with it; it is in Discord's developer portal, page \"Bot\"";

type Vars<'a> = &'a [(&'a str, &'a str)];

fn check(args: &[&str], vars: Vars) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_optic"));
    // Where no .env is.
    command.current_dir("/").args(args).arg("check").env_clear().envs(vars.iter().copied()).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The mistakes and warnings of what is refused, a line each.
fn refused(output: &Output) -> Vec<String> {
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(78), ""), "{stderr}");
    let mut lines = stderr.lines();
    let count = lines.next().unwrap_or_default();
    let lines: Vec<String> = lines.map(|line| line.trim_start().to_owned()).collect();
    let mistakes = lines.iter().filter(|line| !line.starts_with("(warning)")).count();
    let said = if mistakes == 1 { "a mistake".to_owned() } else { format!("{mistakes} mistakes") };
    assert_eq!(count, format!("optic: the configuration has {said}:"));
    lines
}

/// What stands at a label of what would run, put back into one line a text.
fn shown(output: &Output, label: &str) -> Vec<String> {
    let stdout = text(&output.stdout);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{stdout}");
    let mut rows: Vec<(String, String)> = Vec::new();
    for line in stdout.lines() {
        // Labels are as wide as 13 letters; 신경 has fewer.
        let (head, rest) = line.split_at(line.char_indices().nth(14).map_or(line.len(), |(at, _)| at));
        match head.trim() {
            "" => rows.last_mut().expect("a label comes first").1.push_str(&format!("\n{rest}")),
            head => rows.push((head.to_owned(), rest.to_owned())),
        }
    }
    let row = rows.into_iter().find(|(head, _)| head == label).map(|(_, text)| text).unwrap_or_default();
    row.lines().map(str::to_owned).collect()
}

/// Each with a good token beside, unless it has one of its own.
fn with_token<'a>(vars: Vars<'a>) -> Vec<(&'a str, &'a str)> {
    let own = vars.iter().any(|(name, _)| matches!(*name, "DISCORD_TOKEN" | "DISCORD_TOKEN_FILE" | "DISCORD_TOKN"));
    [TOKEN].into_iter().filter(|_| !own).chain(vars.iter().copied()).collect()
}

#[test]
fn a_broken_token_is_explained() {
    for (token, expected) in [
        ("", NO_TOKEN.to_owned()),
        ("   ", NO_TOKEN.to_owned()),
        ("\"MTk4.hunter2.x\"", "DISCORD_TOKEN (not shown): it stands in quotes, and they count as part of it; write it without".into()),
        ("“MTk4.hunter2.x”", "DISCORD_TOKEN (not shown): it stands in quotes, and they count as part of it; write it without".into()),
        ("'MTk4.hunter2.x", "DISCORD_TOKEN (not shown): it has a quote at one end, and that counts as part of it; write it without".into()),
        (" MTk4.hunter2.x ", "DISCORD_TOKEN (not shown): it has white space around it, and that counts as part of it; write it without".into()),
        ("MTk4.hunter2. x", format!("DISCORD_TOKEN (not shown): it has a space, tab or line break in it; {COPY}")),
        ("Bearer MTk4.hunter2.x", format!("DISCORD_TOKEN (not shown): a Bearer token is a user's, and the gateway is for bots; {COPY}")),
        ("DISCORD_TOKEN=MTk4.hunter2.x", "DISCORD_TOKEN (not shown): its own name stands in it; write the value alone".into()),
        ("${BOT_TOKEN}", "DISCORD_TOKEN (not shown): it names another variable, and nothing is put in its place; write the value itself".into()),
        ("198622483471925248", format!("DISCORD_TOKEN (not shown): it looks like the application's id, and not like the bot's token; {COPY}")),
        ("hunter2C3d4E5F6g7H8i9J-k1L2m3N4o", format!("DISCORD_TOKEN (not shown): it looks like the application's client secret, and not like the bot's token; {COPY}")),
        (
            "3f2504e04f8911d39a0c0305e82c33013f2504e04f8911d39a0c0305e82c3301",
            format!("DISCORD_TOKEN (not shown): it looks like the application's public key, and not like the bot's token; {COPY}"),
        ),
    ] {
        let output = check(&[], &[("DISCORD_TOKEN", token)]);
        assert_eq!(refused(&output), [expected], "{token}");
        assert!(!text(&output.stderr).contains("hunter2"));
    }
    let output = check(&[], &[("DISCORD_TOKEN", "Bot MTk4.hunter2.x")]);
    let expected = "DISCORD_TOKEN: begins with \"Bot \", which belongs to REST and not to the gateway; it is left out";
    assert_eq!(shown(&output, "warnings").join(" "), expected);
}

#[test]
fn a_broken_address_of_rabbitmq_is_explained_and_never_shown() {
    for (url, problem, remedy) in [
        ("http://mq:15672", "http is for RabbitMQ's management page, and amqp for events", URL),
        ("redis://me:hunter2@mq", "its scheme is neither amqp nor amqps", URL),
        ("mq:5672", "it has no amqp:// before the host", URL),
        ("amqp://", "it has no host", URL),
        ("amqp://me:hunter2/@mq:5672", "its user or password has a reserved character in it", ESCAPES),
        ("amqp://me:hun#ter2@mq:5672", "its user or password has a reserved character in it", ESCAPES),
        ("amqp://me:1?hunter2@mq:5672", "its user or password has a reserved character in it", ESCAPES),
        ("amqp://me:hunter 2@mq:5672", "it has white space in it", ESCAPES),
        (
            "amqp://me:hunter2@mq:99999",
            "its port is more than 65535",
            "write the one of RabbitMQ: 5672, or 5671 with amqps://",
        ),
        (
            "amqp://me:hunter2@mq:5672bots",
            "its port has something behind the number",
            "write a / before the vhost: amqp://user:password@host:5672/vhost",
        ),
        ("amqp://me:hunter2", "its port is not a number", URL),
        ("amqp://mq//a/b", "its vhost has a / in it", ESCAPES),
        ("'amqp://me:hunter2@mq'", "it stands in quotes, and they count as part of it", "write it without"),
        ("$RABBITMQ_URL", "it names another variable, and nothing is put in its place", "write the value itself"),
        (
            "amqp://me:${PASSWORD}@mq:5672",
            "it names another variable, and nothing is put in its place",
            "write the value itself, or %24 for a $",
        ),
        (
            "amqp://mq?heartbeat=ten",
            "parameter `heartbeat` is `ten`, but must be seconds from 0 (none) to 65535",
            "mend that, or leave it out",
        ),
        (
            "amqp://mq?frame_max=1",
            "unknown parameter `frame_max`; known are heartbeat, connection_timeout, auth_mechanism, cacertfile, certfile, \
             keyfile",
            "mend that, or leave it out",
        ),
    ] {
        let output = check(&[], &[TOKEN, ("AMQP_URL", url)]);
        assert_eq!(refused(&output), [format!("AMQP_URL (not shown): {problem}; {remedy}")], "{url}");
        assert!(!text(&output.stderr).contains("hunter2"));
    }
    // What only looks like a reference is a password.
    for password in ["hun${ter2", "$HUNTER2", "hunter$2", "${hunter2}", "hunter2${}", "$(hunter2)"] {
        let output = check(&[], &[TOKEN, ("AMQP_URL", &format!("amqp://me:{password}@mq:5672"))]);
        assert_eq!(shown(&output, "broker"), ["amqp, amqp://***@mq:5672"], "{password}");
    }
    // The last @ divides: one in the password is understood as it is meant.
    let output = check(&[], &[TOKEN, ("AMQP_URL", "amqp://me:hunter2@home@mq:5672")]);
    assert_eq!(shown(&output, "broker"), ["amqp, amqp://***@mq:5672"]);
    let output = check(&[], &[TOKEN, ("AMQP_URL", "amqp://me:hunter2@mq:15672")]);
    let expected =
        "AMQP_URL: 15672 is the port of RabbitMQ's management, as a rule; events go to 5672, or 5671 with amqps://";
    assert_eq!(shown(&output, "warnings").join(" "), expected);
}

#[test]
fn a_broken_value_is_explained() {
    let cluster = "CLUSTER_ID, CLUSTER_COUNT and CLUSTER_SHARDS go together; set all three, or none (--cluster NUMBER sets \
                   CLUSTER_ID; in sinGateway's file, with clustering.enabled, clusterCount and clusterShards are the others)";
    let ids = "is neither a shard's number nor a range; write numbers and ranges such as 0,1,4-7";
    let table: &[(Vars, Vec<String>)] = &[
        (
            &[("BROKER_TYPE", "amqp")],
            vec!["AMQP_URL is not set: BROKER_TYPE=amqp has to know where RabbitMQ is; set it to amqp://user:password@host:5672/vhost, or AMQP_URL_FILE to a file with it".into()],
        ),
        (
            &[("BROKER_TYPE", "amqp"), ("AMQP_URI", "amqp://mq"), ("RABBITMQ_URL", "amqp://mq")],
            vec![
                "AMQP_URL is not set: BROKER_TYPE=amqp has to know where RabbitMQ is; set it to amqp://user:password@host:5672/vhost, or AMQP_URL_FILE to a file with it".into(),
                "(warning) AMQP_URI: not a variable of Optic, and not read; did you mean AMQP_URL?".into(),
                "(warning) RABBITMQ_URL: not a variable of Optic, and not read; set AMQP_URL".into(),
            ],
        ),
        (
            &[("BROKER_TYPE", "amqp://me:hunter2@mq")],
            vec!["BROKER_TYPE=\"amqp://***@mq\": not known; write amqp or stdio".into()],
        ),
        (
            &[("DISCORD_TOKN", "hunter2")],
            vec![NO_TOKEN.into(), "(warning) DISCORD_TOKN: not a variable of Optic, and not read; did you mean DISCORD_TOKEN?".into()],
        ),
        (
            &[("DISCORD_SHARD_COUNT", "4"), ("DISCORD_SHARD_IDS", "3,4")],
            vec!["DISCORD_SHARD_IDS=\"3,4\": there is no shard 4 among 4; write numbers from 0 to 3".into()],
        ),
        (&[("DISCORD_SHARD_IDS", "0-")], vec![format!("DISCORD_SHARD_IDS=\"0-\": \"0-\" {ids}")]),
        (&[("DISCORD_SHARD_IDS", "-1")], vec![format!("DISCORD_SHARD_IDS=\"-1\": \"-1\" {ids}")]),
        (&[("DISCORD_SHARD_IDS", "[0]")], vec![format!("DISCORD_SHARD_IDS=\"[0]\": \"[0]\" {ids}")]),
        (
            &[("DISCORD_SHARD_COUNT", "-1")],
            vec!["DISCORD_SHARD_COUNT=\"-1\": not a number that it can have; write one from 1 to 65536".into()],
        ),
        (
            &[("DISCORD_INTENTS", "Guilds,GuildMesages")],
            vec!["DISCORD_INTENTS=\"Guilds,GuildMesages\": no such intent: GUILDMESAGES (did you mean GUILD_MESSAGES?); write Discord's names, such as GUILDS,GUILD_MESSAGES, or a number".into()],
        ),
        (
            &[("DISCORD_INTENTS", "all")],
            vec!["DISCORD_INTENTS=\"all\": no such intent: ALL (unset DISCORD_INTENTS for all that are not privileged); write Discord's names, such as GUILDS,GUILD_MESSAGES, or a number".into()],
        ),
        (
            &[("DISCORD_PRESENCE", "Playing chess")],
            vec![format!("DISCORD_PRESENCE=\"Playing chess\": not JSON: expected value at line 1 column 1; {PRESENCE}")],
        ),
        (
            &[("DISCORD_PRESENCE", r#"{"activities":{"name":"x"}}"#)],
            vec![format!(r#"DISCORD_PRESENCE="{{\"activities\":{{\"name\":\"x\"}}}}": activities is not a list; {PRESENCE}"#)],
        ),
        (
            &[("DISCORD_PRESENCE", r#"{"activities":[{"name":"x","type":"PLAYING"}]}"#)],
            vec![format!(
                r#"DISCORD_PRESENCE="{{\"activities\":[{{\"name\":\"x\",\"type\":\"PLAYING\"}}]}}": activity 0 has the type "PLAYING", and not a number: {TYPES}; {PRESENCE}"#
            )],
        ),
        (
            &[AMQP, ("BROKER_MESSAGE_TIMEOUT", "2min")],
            vec!["BROKER_MESSAGE_TIMEOUT=\"2min\": not a duration; write such as 2m, 30s, 500ms or 1h30m".into()],
        ),
        (
            &[AMQP, ("BROKER_PERSISTENT", "enabled")],
            vec!["BROKER_PERSISTENT=\"enabled\": neither yes nor no; write true or false".into()],
        ),
        (
            &[("HTTP_ADDRESS", "8080")],
            vec!["HTTP_ADDRESS=\"8080\": it is a port without an IP address; write 127.0.0.1:8080 for this machine alone, or 0.0.0.0:8080 for everybody".into()],
        ),
        (&[("HTTP_ADDRESS", "0.0.0.0")], vec!["HTTP_ADDRESS=\"0.0.0.0\": it has no port; write 0.0.0.0:8080".into()]),
        (&[("HTTP_ADDRESS", "::1")], vec!["HTTP_ADDRESS=\"::1\": it has no port; write [::1]:8080".into()]),
        (
            &[("HTTP_ADDRESS", "http://0.0.0.0:9000/")],
            vec!["HTTP_ADDRESS=\"http://0.0.0.0:9000/\": it is a URL, and what is wanted is where to listen; write 0.0.0.0:9000".into()],
        ),
        (
            &[("HTTP_ADDRESS", "127.0.0.1:99999")],
            vec!["HTTP_ADDRESS=\"127.0.0.1:99999\": 99999 is no port; write one up to 65535".into()],
        ),
        (
            &[("HTTP_ADDRESS", "optic.example:8080")],
            vec!["HTTP_ADDRESS=\"optic.example:8080\": \"optic.example\" is a name, and no IP address; write 0.0.0.0:8080 for every address of this machine, or one of them".into()],
        ),
        (
            &[AMQP, ("SINGYEONG_ADDRESS", "127.0.0.1:8080")],
            vec!["SINGYEONG_ADDRESS=\"127.0.0.1:8080\": health and metrics are there already, at HTTP_ADDRESS=127.0.0.1:8080; write another port, here or for HTTP_ADDRESS".into()],
        ),
        (
            &[AMQP, ("SINGYEONG_ADDRESS", "127.0.0.1:9100"), ("PROMETHEUS_ADDRESS", ":9100")],
            vec!["SINGYEONG_ADDRESS=\"127.0.0.1:9100\": the metrics are there already, at PROMETHEUS_ADDRESS=0.0.0.0:9100; write another port, here or for PROMETHEUS_ADDRESS".into()],
        ),
        (
            &[AMQP, ("SINGYEONG_ADDRESS", "127.0.0.1:4000"), ("AMYBOT_ADDRESS", "0.0.0.0:4000")],
            vec![
                "AMYBOT_ADDRESS=\"0.0.0.0:4000\": SINGYEONG_ADDRESS=127.0.0.1:4000 has that port already; write 127.0.0.1:4000 to share it, or another port".into(),
                "(warning) AMYBOT_ADDRESS: everybody who reaches this address is a service: keep it inside your own network".into(),
            ],
        ),
        (
            &[("CLUSTER_ID", "2"), ("CLUSTER_COUNT", "2"), ("CLUSTER_SHARDS", "4")],
            vec!["CLUSTER_ID=\"2\": not a number that it can have; write one from 0 to 1".into()],
        ),
        (&[("CLUSTER_COUNT", "2"), ("CLUSTER_SHARDS", "4")], vec![format!("CLUSTER_ID is not set: {cluster}")]),
        (
            &[AMQP, ("CLUSTER_MODE", "leased"), ("DISCORD_SHARD_COUNT", "8"), ("DISCORD_SHARD_IDS", "0-3")],
            vec!["DISCORD_SHARD_IDS=\"0-3\": with CLUSTER_MODE=leased the processes share the shards out among themselves; unset it, or set CLUSTER_MODE=static".into()],
        ),
        (
            &[AMQP, ("FORWARDING", "[{")],
            vec![format!("FORWARDING=\"[{{\": it is no JSON: EOF while parsing an object at line 1 column 2; {RULES}"), format!("(warning) {NOBODY}")],
        ),
        (
            &[AMQP, ("FORWARDING", "/nowhere/rules.json")],
            vec![
                format!("FORWARDING=\"/nowhere/rules.json\": the file cannot be read: No such file or directory (os error 2); name a file with rules, or {RULES}"),
                format!("(warning) {NOBODY}"),
            ],
        ),
        (
            &[("DISCORD_TOKEN_FILE", "/nowhere")],
            vec!["DISCORD_TOKEN_FILE=\"/nowhere\": the file cannot be read: No such file or directory (os error 2); name a file with the value in it and nothing else".into()],
        ),
        (
            &[("DISCORD_TOKEN_FILE", "MTk4.hunter2.x")],
            vec!["DISCORD_TOKEN_FILE (not shown): the file cannot be read: No such file or directory (os error 2); name a file, by its path from / or ./, and not the secret itself".into()],
        ),
        (
            &[("DISCORD_TOKEN_FILE", "/")],
            vec!["DISCORD_TOKEN_FILE=\"/\": it is a folder (Docker makes one where the file to be mounted is not there); name a file with the value in it and nothing else".into()],
        ),
        (
            &[TOKEN, ("DISCORD_TOKEN_FILE", "/run/secrets/token")],
            vec!["DISCORD_TOKEN_FILE=\"/run/secrets/token\": DISCORD_TOKEN is set too, and only one of them can hold; unset one of them".into()],
        ),
        (
            &[("LOG_LEVEL", "WARNING")],
            vec!["LOG_LEVEL=\"WARNING\": \"WARNING\" is no level (did you mean warn?); write error, warn, info, debug, trace or off, or by module: info,optic::discord=debug".into()],
        ),
        (
            &[("LOG_LEVEL", "\"info\"")],
            vec!["LOG_LEVEL=\"\\\"info\\\"\": it stands in quotes, and they count as part of it; write it without".into()],
        ),
    ];
    for (vars, expected) in table {
        assert_eq!(&refused(&check(&[], &with_token(vars))), expected, "{vars:?}");
    }
}

#[test]
fn what_is_doubtful_is_said_though_it_would_run() {
    let table: &[(Vars, &str, &str)] = &[
        (
            &[("DISCORD_SHARD_IDS", "0,1")],
            "warnings",
            "DISCORD_SHARD_IDS: holds among as many shards as Discord advises, and that number changes as the bot grows; set \
             DISCORD_SHARD_COUNT",
        ),
        (
            &[("DISCORD_EVENTS", "messageCreate")],
            "warnings",
            "DISCORD_EVENTS: MESSAGECREATE is no event that Discord documents (did you mean MESSAGE_CREATE?); it is kept as it is",
        ),
        (
            &[("DISCORD_INTENTS", "GUILDS,GUILD_MEMBERS")],
            "intents",
            "intents, as set: GUILDS | GUILD_MEMBERS privileged, to be switched on in Discord's developer portal: GUILD_MEMBERS",
        ),
        (
            &[("DISCORD_EVENTS", "MESSAGE_CREATE"), ("DISCORD_INTENTS", "GUILDS")],
            "warnings",
            "DISCORD_EVENTS: MESSAGE_CREATE never comes: none of the intents brings it, which GUILD_MESSAGES | DIRECT_MESSAGES \
             does",
        ),
        (
            &[AMQP, ("BROKER_GRUOP", "x")],
            "warnings",
            "BROKER_GRUOP: not a variable of Optic, and not read; did you mean BROKER_GROUP?",
        ),
        (
            &[("RABBITMQ_URL", "amqp://mq")],
            "warnings",
            "RABBITMQ_URL: not a variable of Optic, and not read; set AMQP_URL",
        ),
        (
            &[AMQP, ("BROKER_MESSAGE_TIMEOUT", "120")],
            "warnings",
            "BROKER_MESSAGE_TIMEOUT: 120 without a unit is 120 milliseconds; write 120s for seconds",
        ),
        (
            &[AMQP, ("BROKER_GROUP_FILE", "/run/group")],
            "warnings",
            "BROKER_GROUP_FILE: not read: only secrets come from files; set BROKER_GROUP",
        ),
        (&[AMQP, ("BROKER_PERSISTENT", "yes")], "messages", "written to disk, never expiring"),
        // Set beside the right one it is another program's.
        (&[AMQP, ("RABBITMQ_URL", "amqp://mq")], "warnings", ""),
    ];
    for (vars, label, expected) in table {
        assert_eq!(shown(&check(&[], &with_token(vars)), label).join(" "), *expected, "{vars:?}");
    }
}

#[test]
fn mistakes_of_all_kinds_are_told_at_once() {
    let vars = [
        ("DISCORD_TOKEN", "198622483471925248"),
        ("AMQP_URL", "http://mq:15672"),
        ("DISCORD_INTENTS", "GUILD_MESAGES"),
        ("DISCORD_SHARD_COUNT", "two"),
        ("HTTP_ADDRESS", "8080"),
        ("LOG_LEVEL", "inf"),
    ];
    let lines = refused(&check(&[], &vars));
    let named: Vec<&str> = lines.iter().map(|line| line.split(['=', ' ']).next().unwrap_or_default()).collect();
    let expected = ["DISCORD_TOKEN", "DISCORD_INTENTS", "DISCORD_SHARD_COUNT", "AMQP_URL", "HTTP_ADDRESS", "LOG_LEVEL"];
    assert_eq!(named, expected);
}

#[test]
fn a_secrets_file_is_named_where_what_is_in_it_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    fs::write(&path, "DISCORD_TOKEN=MTk4.hunter2.x\n").expect("written");
    let output = check(&[], &[("DISCORD_TOKEN_FILE", path.to_str().expect("a path"))]);
    let expected = "DISCORD_TOKEN, from the file that DISCORD_TOKEN_FILE names (not shown): its own name stands in it; write the \
                    value alone";
    assert_eq!(refused(&output), [expected]);
    fs::write(&path, "MTk4.hunter2.x\r\n").expect("written");
    let output = check(&[], &[("DISCORD_TOKEN_FILE", path.to_str().expect("a path"))]);
    assert_eq!(shown(&output, "token"), ["set (not shown)"]);
}

fn with_file(path: &Path, content: &str) -> Output {
    fs::write(path, content).expect("written");
    check(&["--env-file", path.to_str().expect("a path")], &[])
}

#[test]
fn an_env_file_is_read_as_editors_and_shells_leave_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(".env");
    for content in [
        "DISCORD_TOKEN=MTk4.a.b\nDISCORD_SHARD_COUNT=4\n",
        "export DISCORD_TOKEN=MTk4.a.b\nexport DISCORD_SHARD_COUNT=4\n",
        "DISCORD_TOKEN=\"MTk4.a.b\"\nDISCORD_SHARD_COUNT='4'\n",
        "DISCORD_TOKEN = MTk4.a.b\nDISCORD_SHARD_COUNT = 4   # all of them\n",
        "\u{feff}DISCORD_TOKEN=MTk4.a.b\r\nDISCORD_SHARD_COUNT=4\r\n",
    ] {
        let output = with_file(&path, content);
        assert_eq!(
            (shown(&output, "shards"), shown(&output, "warnings")),
            (vec!["0-3 of 4".to_owned()], vec![]),
            "{content:?}"
        );
    }
}

#[test]
fn an_env_file_that_nobody_named_is_hinted_at_where_something_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(".env"), "DISCORD_TOKEN=MTk4.a.b\n").expect("written");
    let check = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_optic"));
        command.current_dir(folder.path()).args(args).env_clear().output().expect("it runs")
    };
    let hint = "(warning) .env: is in this folder, and not read; `optic --env-file .env` reads it";
    assert_eq!(refused(&check(&["check"])), [NO_TOKEN, hint]);
    assert_eq!(shown(&check(&["--env-file", ".env", "check"]), "token"), ["set (not shown)"]);
}

#[test]
fn an_env_file_that_is_none_is_explained_with_every_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(".env");
    const FORM: &str = "write such as DISCORD_SHARD_COUNT=8, without spaces in the name, or # before a comment";
    for (content, problem) in [
        ("DISCORD_TOKEN: hunter2\n", "line 1 is neither KEY=VALUE nor a comment"),
        (
            "# good\nset DISCORD_TOKEN=hunter2\nhunter2\nA=1\nDISCORD SHARD=2\n",
            "lines 2, 3, 5 are neither KEY=VALUE nor comments",
        ),
    ] {
        let output = with_file(&path, content);
        let expected = format!("optic: --env-file {}: {problem}; {FORM}\n", path.display());
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(78), expected));
    }
    let gone = folder.path().join("none");
    let output = check(&["--env-file", gone.to_str().expect("a path")], &[]);
    let expected = format!("optic: --env-file {}: No such file or directory (os error 2)\n", gone.display());
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(78), expected));
}
