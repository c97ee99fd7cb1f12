//! `optic service`: looks at amybot's services, and has them stop or start anew, by the admin interface of a running Optic.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use hyper::header::AUTHORIZATION;
use hyper::http::request::Builder;
use hyper::{Method, Request, StatusCode};
use optic::amybot::internal::{Over, Proxied, Service, Services};
use optic::config::HttpAccess;
use serde::Deserialize;

use super::environment::{Environment, read_file, wrong};
use super::exit::{Exit, ExitWith};
use super::{http, output};

/// What to do.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the services, their instances and the shards they have
    List,
    /// Have all instances of a service stop
    Shutdown(Name),
    /// Have all instances of a service stop and start anew
    Reboot(Name),
}

#[derive(Debug, Args)]
struct Name {
    /// The service, by the name it identified with
    name: String,
}

/// Where the admin interface has the services.
const PATH: &str = "/api/amybot/services";

/// Longer than an answer takes, be it to a wrong token.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is wrong, in the interface's words.
#[derive(Deserialize)]
struct Refused {
    error: String,
}

/// How many instances were told.
#[derive(Deserialize)]
struct Told {
    instances: usize,
}

pub async fn run(args: ServiceArgs, environment: &Environment) -> Result<()> {
    let (access, _) = HttpAccess::from_vars(environment.vars(), read_file).map_err(wrong)?;
    match args.what {
        What::List => {
            let services: Services = ask(&access, PATH, Method::GET).await?;
            output::print(&table(&services))?;
        }
        What::Shutdown(Name { name }) => {
            let told = order(&access, &name, "shutdown").await?;
            output::print(&format!("{} of {name} told to stop\n", instances(told)))?;
        }
        What::Reboot(Name { name }) => {
            let told = order(&access, &name, "reboot").await?;
            output::print(&format!("{} of {name} told to stop and start anew\n", instances(told)))?;
        }
    }
    Ok(())
}

async fn order(access: &HttpAccess, name: &str, order: &str) -> Result<usize> {
    let path = format!("{PATH}/{}/{order}", encoded(name));
    let told: Told = ask(access, &path, Method::POST).await?;
    Ok(told.instances)
}

async fn ask<T: for<'de> Deserialize<'de>>(access: &HttpAccess, path: &str, method: Method) -> Result<T> {
    let url = http::url_of(access.address, PATH)?;
    let mut request = Builder::method(Request::builder(), method);
    // Whether it can do without one is for the other to say: on the machine itself, reading can.
    if let Some(token) = &access.token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let asked = http::ask_at(&url, path, request, TIMEOUT).await;
    let (status, body) =
        asked.with_context(|| format!("no Optic answers at {url}: is HTTP_ADDRESS that of a running one?"))?;
    if status == StatusCode::OK {
        return serde_json::from_str(&body).with_context(|| format!("{url}: the answer cannot be read"));
    }
    let why = match serde_json::from_str(&body) {
        Ok(Refused { error }) => error,
        Err(_) => format!("{status}: an Optic without an admin interface, or none at all"),
    };
    match status {
        StatusCode::UNAUTHORIZED if access.token.is_none() => {
            let cause =
                format!("{url}: {why}; set HTTP_TOKEN (or HTTP_TOKEN_FILE) to the token of the Optic that is asked");
            Err(ExitWith::new(Exit::Configuration, cause).into())
        }
        StatusCode::UNAUTHORIZED => {
            let cause = format!("{url}: HTTP_TOKEN is not the token of the Optic that was asked");
            Err(ExitWith::new(Exit::Configuration, cause).into())
        }
        StatusCode::FORBIDDEN => Err(ExitWith::new(Exit::Configuration, format!("{url}: {why}")).into()),
        _ => Err(anyhow!("{url}: {why}")),
    }
}

/// Text as one part of a path: whatever is no letter or digit is encoded, dots as well.
fn encoded(text: &str) -> String {
    let mut part = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            part.push(char::from(byte));
        } else {
            let _ = write!(part, "%{byte:02X}");
        }
    }
    part
}

fn instances(count: usize) -> String {
    if count == 1 { "1 instance".to_owned() } else { format!("{count} instances") }
}

/// A line an instance, and one for each source and topic of what was passed on.
fn table(services: &Services) -> String {
    let mut text = columns(["SERVICE", "OVER", "SHARDS", "TOPICS"], services.services.iter().flat_map(rows_of));
    let Services { shard_count, free, proxied, .. } = services;
    text += &format!("{free} of {shard_count} shards are free\n");
    if !proxied.is_empty() {
        text.push('\n');
        let counted = |one: &Proxied| {
            let (delivered, set_aside) = (one.delivered.to_string(), one.set_aside.to_string());
            [delivered, set_aside, one.source.to_string(), one.topic.to_string()]
        };
        text += &columns(["PASSED ON", "SET ASIDE", "SOURCE", "TOPIC"], proxied.iter().map(counted));
    }
    text
}

/// Rows below a head, each column as wide as it has to be.
fn columns(head: [&str; 4], body: impl Iterator<Item = [String; 4]>) -> String {
    let rows: Vec<_> = [head.map(str::to_owned)].into_iter().chain(body).collect();
    let widths: Vec<usize> =
        (0..3).map(|n| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or_default()).collect();
    let mut text = String::new();
    for [first, second, third, last] in &rows {
        let [a, b, c] = widths[..] else { unreachable!("of three columns") };
        let line = format!("{first:a$}  {second:b$}  {third:c$}  {last}");
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn rows_of(service: &Service) -> Vec<[String; 4]> {
    let of_instance = |instance: &optic::amybot::internal::Instance| {
        let over = match &instance.over {
            Over::Amqp { queue } => format!("amqp {queue}"),
            Over::Websocket { node, connection } => format!("websocket {node} {connection}"),
        };
        let mut shards: Vec<String> = instance.shards.iter().map(ToString::to_string).collect();
        if instance.waiting > 0 {
            shards.push(format!("(waits for {})", instance.waiting));
        }
        let topics: Vec<String> = instance.topics.iter().map(ToString::to_string).collect();
        [service.name.to_string(), over, or_none(&shards), or_none(&topics)]
    };
    service.instances.iter().map(of_instance).collect()
}

fn or_none(words: &[String]) -> String {
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use optic::amybot::internal::Instance;
    use optic::amybot::message::ServiceName;
    use optic::cluster::node::NodeId;
    use optic::discord::ids::ShardId;

    use super::*;

    #[test]
    fn the_table_has_a_line_an_instance() {
        let over = |connection| Over::Websocket { node: NodeId::of_run("web", 1), connection };
        let service = Service {
            name: ServiceName::new("music").expect("a name"),
            instances: vec![
                Instance { over: over(12), shards: vec![ShardId::new(3), ShardId::new(4)], waiting: 1, topics: vec![] },
                Instance {
                    over: Over::Amqp { queue: "music".to_owned() },
                    shards: vec![],
                    waiting: 0,
                    topics: vec!["play.*".to_owned().into()],
                },
            ],
        };
        let proxied = Proxied { source: "bot".into(), topic: "play.song".into(), delivered: 12, set_aside: 0 };
        let text = table(&Services { shard_count: 16, free: 13, services: vec![service], proxied: vec![proxied] });
        let expected = "\
SERVICE  OVER                       SHARDS             TOPICS
music    websocket web.00000001 12  3 4 (waits for 1)  -
music    amqp music                 -                  play.*
13 of 16 shards are free

PASSED ON  SET ASIDE  SOURCE  TOPIC
12         0          bot     play.song
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(encoded("a b/c"), "a%20b%2Fc");
        assert_eq!(encoded(".."), "%2E%2E");
        assert_eq!(encoded("눈1"), "%EB%88%881");
    }

    #[tokio::test]
    async fn what_is_missing_is_said_with_its_exit_code() {
        let list = || ServiceArgs { what: What::List };
        let off = [("HTTP_ADDRESS", "off"), ("HTTP_TOKEN", "hunter2")];
        let error = run(list(), &Environment::of(&off)).await.expect_err("nobody to ask");
        assert_eq!(ExitWith::of(&error), Exit::Configuration, "{error}");
        let free =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let free = free.to_string();
        for nobody in [&[("HTTP_ADDRESS", &*free), ("HTTP_TOKEN", "hunter2")][..], &[("HTTP_ADDRESS", &*free)]] {
            let error = run(list(), &Environment::of(nobody)).await.expect_err("nobody listens");
            assert_eq!(ExitWith::of(&error), Exit::Failed);
            assert!(error.to_string().starts_with("no Optic answers at http://127.0.0.1:"), "{error}");
        }
    }
}
