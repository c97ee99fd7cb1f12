//! Every variable: its name, its default and what it means. The documentation is held against this table.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::nearest::nearest;
use super::report::Report;

/// A variable that this version reads.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds when it is not set, in words.
    pub default: &'static str,
    /// What it means, in a sentence.
    pub meaning: &'static str,
    /// Whether it is a secret: never shown, and read from a file by `<NAME>_FILE`.
    pub secret: bool,
}

macro_rules! variables {
    (@secret) => { false };
    (@secret secret) => { true };
    ($($field:ident $name:literal $($secret:ident)?: $default:literal, $meaning:literal;)+) => {
        /// The variables as text; what is empty counts as not set, but for `HTTP_ADDRESS`.
        #[derive(Default, Deserialize)]
        pub(super) struct Raw {
            $(pub $field: Option<String>,)+
        }

        #[cfg(test)]
        impl Raw {
            /// How many variables are set.
            fn count(&self) -> usize {
                [$(self.$field.is_some()),+].into_iter().filter(|set| *set).count()
            }
        }

        /// Every variable that this version reads, in the order of the documentation.
        pub const VARIABLES: &[Variable] = &[$(
            Variable { name: $name, default: $default, meaning: $meaning, secret: variables!(@secret $($secret)?) },
        )+];
    };
}

variables! {
    discord_token "DISCORD_TOKEN" secret: "required, but for 신경 and amybot alone",
        "The bot's token, without `Bot` before it.";
    discord_events "DISCORD_EVENTS": "`auto`",
        "The events to publish: names separated by commas or spaces, or `auto` for those that have a queue.";
    discord_intents "DISCORD_INTENTS": "derived",
        "Intents by name, separated by commas or spaces, or as a number. Not set: the smallest set that brings the listed events; with `auto` all that are not privileged.";
    discord_raw_intents "DISCORD_RAW_INTENTS": "not set",
        "Intents as a number; goes before `DISCORD_INTENTS`.";
    discord_shard_count "DISCORD_SHARD_COUNT": "Discord's advice",
        "How many shards the bot has in all, over all processes; `auto` asks Discord.";
    discord_shard_ids "DISCORD_SHARD_IDS": "all",
        "The shards that this process runs, such as `0,1,4-7`.";
    discord_presence "DISCORD_PRESENCE": "none",
        "The presence to identify with, as JSON: `status`, `activities`, `since`, `afk`.";
    discord_large_threshold "DISCORD_LARGE_THRESHOLD": "Discord's own, 50",
        "From how many members on a guild comes without its offline members: 50 to 250.";
    discord_api_version "DISCORD_API_VERSION": "`10`",
        "The version of Discord's API: 9 or 10.";
    discord_api_protocol "DISCORD_API_PROTOCOL": "`https`",
        "`https`, or `http` for a simulator or a proxy nearby.";
    discord_api_host "DISCORD_API_HOST": "`discord.com`",
        "The host of Discord's API; may carry a port.";
    discord_encoding "DISCORD_ENCODING": "`json`",
        "How Discord writes packets: `json` or `etf`.";
    discord_compression "DISCORD_COMPRESSION": "`zlib-stream`",
        "How Discord compresses: `zlib-stream`, `zstd-stream` or `none`.";
    broker_type "BROKER_TYPE": "`amqp` with `AMQP_URL`, else `stdio`",
        "Where events go: `amqp`, or `stdio` for JSON lines on standard output.";
    broker_group "BROKER_GROUP": "`gateway`",
        "The exchange, and the first part of every queue's name.";
    broker_encoding "BROKER_ENCODING": "as Discord wrote them",
        "How events are published: `json`, `etf`, `msgpack`, or `msgpack-text`, JSON text in a MessagePack string.";
    broker_message_timeout "BROKER_MESSAGE_TIMEOUT": "none",
        "How long an event waits for a worker before RabbitMQ drops it: `2m`, `30s`, `500ms`, `1h30m`; a bare number is milliseconds.";
    broker_persistent "BROKER_PERSISTENT": "`true`",
        "Whether RabbitMQ writes events to disk.";
    broker_declare "BROKER_DECLARE": "none",
        "Queues to declare at the start, as `EVENT` or `subgroup:EVENT`, so that events wait for the first worker.";
    amqp_url "AMQP_URL" secret: "none",
        "RabbitMQ: `amqp://user:password@host:5672/vhost`, or `amqps://`.";
    shard_store_type "SHARD_STORE_TYPE": "`amqp` with `BROKER_TYPE=amqp`, else `memory`",
        "Where sessions outlive the process: `amqp`, `file`, or `memory` for nowhere.";
    shard_store_prefix "SHARD_STORE_PREFIX": "`session`; for `file` `optic-sessions`",
        "For `amqp` a part of the queues' names, `<group>:optic:<prefix>.<shard>`; for `file` the folder.";
    cluster_mode "CLUSTER_MODE": "`static`",
        "`static`: this process runs the shards that it is told to; `leased`: all processes of the group share the shards out among themselves.";
    cluster_node "CLUSTER_NODE": "the machine's host name",
        "This process's name in the logs of the others.";
    cluster_id "CLUSTER_ID": "not set",
        "This process's number among `CLUSTER_COUNT`, from 0; goes with the two below, in the place of `DISCORD_SHARD_*`.";
    cluster_count "CLUSTER_COUNT": "not set",
        "How many processes there are.";
    cluster_shards "CLUSTER_SHARDS": "not set",
        "How many shards each process runs: process k has k × this and the following.";
    http_address "HTTP_ADDRESS": "`127.0.0.1:8080`",
        "Where the page, `/health/live`, `/health/ready`, `/metrics` and the admin interface are served; empty or `off` for nowhere.";
    http_token "HTTP_TOKEN" secret: "none: no admin interface, and the page shows nothing to other machines",
        "What the admin interface asks for, and what who reads the page from another machine tells, as `Authorization: Bearer <token>`.";
    http_readers "HTTP_READERS": "`loopback`",
        "Who reads the page without `HTTP_TOKEN`: `loopback`, those on the machine itself, or `token`, nobody.";
    prometheus_address "PROMETHEUS_ADDRESS": "not set: only at `HTTP_ADDRESS`",
        "A second address for the metrics, and nothing else there, such as `:9100`; that of `HTTP_ADDRESS` for one more path there.";
    prometheus_endpoint "PROMETHEUS_ENDPOINT": "`/metrics`",
        "The metrics' path at `PROMETHEUS_ADDRESS`; at `HTTP_ADDRESS` they are at `/metrics`.";
    singyeong_address "SINGYEONG_ADDRESS": "not set: no 신경 server",
        "Where the 신경 server listens for websockets and REST, such as `0.0.0.0:4000`.";
    singyeong_auth "SINGYEONG_AUTH" secret: "none: every client may do everything",
        "The password of 신경 clients; those without it are restricted.";
    singyeong_proxy_allow "SINGYEONG_PROXY_ALLOW": "none",
        "Networks that the REST proxy may ask though they are loopback, link-local or the like: `127.0.0.0/8,::1`.";
    singyeong_heartbeat "SINGYEONG_HEARTBEAT": "`45s`",
        "How often clients are told to send heartbeats; one that sends none for one and a half times this is closed.";
    singyeong_ack_timeout "SINGYEONG_ACK_TIMEOUT": "`15s`",
        "How long a client may take to acknowledge a queued message, before another client gets it.";
    singyeong_max_connections "SINGYEONG_MAX_CONNECTIONS": "`20000`",
        "How many 신경 connections this process takes.";
    singyeong_max_message "SINGYEONG_MAX_MESSAGE": "`4m`",
        "The largest message from a client, and the largest REST body, in bytes: `65536`, `64k`, `4m`.";
    singyeong_max_metadata "SINGYEONG_MAX_METADATA": "`64k`",
        "How many bytes of metadata a client may have.";
    singyeong_max_query_depth "SINGYEONG_MAX_QUERY_DEPTH": "`32`",
        "How deep operators may lie in each other in a query: 1 to 64.";
    singyeong_client_buffer "SINGYEONG_CLIENT_BUFFER": "`8m`",
        "How many bytes may wait for a client that reads slowly, before it is closed.";
    singyeong_dsn "SINGYEONG_DSN" secret: "none: forwarded events go to the 신경 server of this group",
        "Another 신경 server to forward events to: `singyeong://app:password@host:port/?encoding=json`, or `ssingyeong://`; `off` for none.";
    forwarding "FORWARDING": "none",
        "Rules by which events are forwarded to 신경 clients: JSON, or the path of a file with it (spec/forwarding.md).";
    amybot_address "AMYBOT_ADDRESS": "not set",
        "Where amybot services come in by websocket; may be the same as `SINGYEONG_ADDRESS`.";
    amybot_shard_count "AMYBOT_SHARD_COUNT": "not set: as another process of the group says, or said",
        "How many shards amybot services run in all, the same in all processes; set, they are also served over RabbitMQ alone.";
    log_level "LOG_LEVEL": "`info`",
        "`error`, `warn`, `info`, `debug`, `trace` or `off`, also by module: `info,optic::discord=debug`.";
    log_format "LOG_FORMAT": "`text`",
        "`text` for people, `json` for machines; always on standard error.";
}

/// A variable whose name begins so is meant for us, if it is close to one of ours.
pub const PREFIXES: &[&str] = &[
    "DISCORD_",
    "BROKER_",
    "AMQP_",
    "SHARD_",
    "CLUSTER_",
    "HTTP_",
    "LOG_",
    "PROMETHEUS_",
    "SINGYEONG_",
    "AMYBOT_",
    "FORWARDING",
];

impl Raw {
    /// Takes out of the environment what is ours, with the secrets that are in files.
    pub fn read(
        vars: impl IntoIterator<Item = (String, String)>,
        read_file: impl Fn(&Path) -> io::Result<String>,
        report: &mut Report,
    ) -> Self {
        let mut vars: BTreeMap<String, String> = vars.into_iter().collect();
        for secret in VARIABLES.iter().filter(|variable| variable.secret) {
            take_from_file(secret.name, &mut vars, &read_file, report);
        }
        let (ours, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            vars.into_iter().partition(|(name, _)| VARIABLES.iter().any(|variable| variable.name == name));
        let is_set = |name: &str| ours.get(name).is_some_and(|text| !text.trim().is_empty());
        warn_about(&others, is_set, report);
        let ours = ours.into_iter().map(|(name, text)| {
            let text = as_meant(&name, text, report);
            (name, text)
        });
        let set = ours.filter(|(name, text)| name == "HTTP_ADDRESS" || !text.trim().is_empty());
        envy::from_iter(set).expect("every variable is optional text")
    }
}

/// Puts the content of the file that `<NAME>_FILE` names in the place of the variable.
fn take_from_file(
    name: &'static str,
    vars: &mut BTreeMap<String, String>,
    read_file: &impl Fn(&Path) -> io::Result<String>,
    report: &mut Report,
) {
    let file_variable = format!("{name}_FILE");
    let Some(path) = vars.remove(&file_variable).filter(|path| !path.trim().is_empty()) else {
        return;
    };
    if vars.get(name).is_some_and(|text| !text.trim().is_empty()) {
        wrong_file(
            &file_variable,
            &path,
            format!("{name} is set too, and only one of them can hold"),
            "unset one of them",
            report,
        );
        return;
    }
    let problem = match read_file(Path::new(path.trim())) {
        Ok(text) => match text.trim_end_matches(['\r', '\n']) {
            "" => "the file is empty".to_owned(),
            text => {
                report.is_from_file(name);
                vars.insert(name.to_owned(), text.to_owned());
                return;
            }
        },
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            "it is a folder (Docker makes one where the file to be mounted is not there)".to_owned()
        }
        Err(error) => format!("the file cannot be read: {error}"),
    };
    let remedy = match is_plainly_a_path(&path) {
        true => "name a file with the value in it and nothing else",
        false => "name a file, by its path from / or ./, and not the secret itself",
    };
    wrong_file(&file_variable, &path, problem, remedy, report);
    // Something to go on with, so that the variable is not also reported as missing.
    vars.insert(name.to_owned(), UNREAD.to_owned());
}

/// A mistake in what is to be a path. Whoever takes `<NAME>_FILE` for the variable itself has the secret in it.
fn wrong_file(variable: &str, path: &str, problem: String, remedy: &str, report: &mut Report) {
    match is_plainly_a_path(path) {
        true => report.wrong(variable, path, problem, remedy),
        false => report.wrong_secret(variable, problem, remedy),
    }
}

/// Whether it may be shown: `/run/…`, `./…` and `../…`. Secrets have slashes, too, and a random one may begin with one, but
/// not go on as a folder's name.
fn is_plainly_a_path(text: &str) -> bool {
    let text = text.trim();
    let is_folder =
        |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    let is_absolute = text.strip_prefix('/').is_some_and(|rest| rest.split('/').next().is_some_and(is_folder));
    !text.contains("://") && (is_absolute || text.starts_with("./") || text.starts_with("../"))
}

/// Stands for a secret whose file could not be read; that is reported already.
pub(super) const UNREAD: &str = "\u{0}unread";

/// What other programs call a variable of ours.
const CALLED_OTHERWISE: [(&str, &str); 18] = [
    ("TOKEN", "DISCORD_TOKEN"),
    ("BOT_TOKEN", "DISCORD_TOKEN"),
    ("DISCORD_BOT_TOKEN", "DISCORD_TOKEN"),
    ("RABBITMQ_URL", "AMQP_URL"),
    ("RABBITMQ_URI", "AMQP_URL"),
    ("RABBIT_URL", "AMQP_URL"),
    ("RABBITMQ_HOST", "AMQP_URL"),
    ("RABBIT_HOST", "AMQP_URL"),
    ("CLOUDAMQP_URL", "AMQP_URL"),
    ("BROKER_URL", "AMQP_URL"),
    ("INTENTS", "DISCORD_INTENTS"),
    ("SHARD_COUNT", "DISCORD_SHARD_COUNT"),
    ("SHARDS", "DISCORD_SHARD_COUNT"),
    ("SHARDS_TOTAL", "DISCORD_SHARD_COUNT"),
    ("SHARD_IDS", "DISCORD_SHARD_IDS"),
    ("SHARDS_START", "DISCORD_SHARD_IDS"),
    ("SHARDS_END", "DISCORD_SHARD_IDS"),
    ("RUST_LOG", "LOG_LEVEL"),
];

/// Passwords that a person chose: they may have anything in them.
const CHOSEN: [&str; 2] = ["SINGYEONG_AUTH", "HTTP_TOKEN"];

/// URLs are put together of variables, and have passwords in them that may look like one.
const URLS: [&str; 2] = ["AMQP_URL", "SINGYEONG_DSN"];

/// The value without what came into it by the way in which it was written: quotes, its own name, a reference to another
/// variable. Each is a mistake, and what is left is looked at further.
fn as_meant(name: &str, text: String, report: &mut Report) -> String {
    if CHOSEN.contains(&name) || text == UNREAD {
        return text;
    }
    let secret = VARIABLES.iter().any(|variable| variable.name == name && variable.secret);
    let mut wrong = |problem: &str, remedy: &str| match secret {
        true => report.wrong_secret(name, problem, remedy),
        false => report.wrong(name, &text, problem, remedy),
    };
    let trimmed = text.trim();
    let quoted = [('"', '"'), ('\'', '\''), ('“', '”'), ('‘', '’')].into_iter().find_map(|(open, close)| {
        let inside = trimmed.strip_prefix(open)?.strip_suffix(close)?;
        Some(inside.to_owned())
    });
    if let Some(inside) = quoted {
        wrong("it stands in quotes, and they count as part of it", "write it without");
        return inside;
    }
    let own_name = trimmed.strip_prefix("export ").unwrap_or(trimmed).strip_prefix(name);
    if let Some(value) = own_name.and_then(|rest| rest.trim_start().strip_prefix('=')) {
        wrong("its own name stands in it", "write the value alone");
        return value.trim().to_owned();
    }
    let in_url = URLS.contains(&name) && has_reference(trimmed);
    if in_url || is_reference(trimmed) {
        let remedy = if in_url { "write the value itself, or %24 for a $" } else { "write the value itself" };
        wrong("it names another variable, and nothing is put in its place", remedy);
        // As if it were not set, but a secret that is needed is not also reported as missing.
        return if secret { UNREAD.to_owned() } else { String::new() };
    }
    text
}

/// Whether it is `$NAME` or `${NAME}`, perhaps with something for where that is not set, and nothing else.
fn is_reference(text: &str) -> bool {
    let in_braces = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    match in_braces {
        Some(inside) => {
            !inside.contains(['{', '}']) && inside.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        }
        None => text.strip_prefix('$').is_some_and(is_capitals),
    }
}

/// Whether a `${NAME}` stands anywhere in it. What is not in capitals may be a part of a password.
fn has_reference(text: &str) -> bool {
    text.split("${").skip(1).any(|rest| rest.split_once('}').is_some_and(|(name, _)| is_capitals(name)))
}

fn is_capitals(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// Warns about what looks as if it were meant for us and is not read.
fn warn_about(others: &BTreeMap<String, String>, is_set: impl Fn(&str) -> bool, report: &mut Report) {
    let known = || VARIABLES.iter().map(|variable| variable.name);
    let files: Vec<String> =
        VARIABLES.iter().filter(|variable| variable.secret).map(|secret| format!("{}_FILE", secret.name)).collect();
    for (name, text) in others {
        let upper = name.to_ascii_uppercase();
        if text.trim().is_empty() {
            continue;
        }
        if upper == "DISCORD_GATEWAY_VERSION" {
            report.warn(name, "not read; set DISCORD_API_VERSION");
        } else if let Some((_, ours)) = CALLED_OTHERWISE.iter().find(|(other, _)| *other == upper) {
            if !is_set(ours) {
                report.warn(name, format!("not a variable of Optic, and not read; set {ours}"));
            }
        } else if let Some(plain) = name.strip_suffix("_FILE").filter(|plain| known().any(|known| known == *plain)) {
            report.warn(name, format!("not read: only secrets come from files; set {plain}"));
        } else if PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) {
            let candidates = known().chain(files.iter().map(String::as_str));
            if let Some(meant) = nearest(&upper, candidates) {
                report.warn(name, format!("not a variable of Optic, and not read; did you mean {meant}?"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_arrives_under_its_own_name() {
        let all = VARIABLES.iter().map(|variable| (variable.name.to_owned(), variable.name.to_owned()));
        let raw = Raw::read(all, |_| unreachable!("no file is named"), &mut Report::default());
        assert_eq!(raw.count(), VARIABLES.len());
        assert_eq!(raw.discord_token.as_deref(), Some("DISCORD_TOKEN"));
    }

    #[test]
    fn what_is_empty_is_not_set_but_for_the_http_address() {
        let vars = [("DISCORD_EVENTS", " "), ("HTTP_ADDRESS", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let raw = Raw::read(vars, |_| unreachable!("no file is named"), &mut Report::default());
        assert_eq!(raw.discord_events, None);
        assert_eq!(raw.http_address.as_deref(), Some(""));
    }
}
