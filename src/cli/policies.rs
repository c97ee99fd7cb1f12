//! `optic policies`: bounds for the queues of events, as policies, ready to apply.
//!
//! Workers declare those queues with no arguments, and an argument of ours would make their declaring fail: only a
//! policy can bound them. The oldest events are dropped (drop-head); refusing new ones (reject-publish) would make
//! RabbitMQ nack an event that other queues have taken. Optic's own queues, `G:optic:…`, hold sessions, and those of commands and
//! messages, `G:<shard>`, `G:SEND`, `G:REJECTED`, `G:SINGYEONG_…`, `G:gateway` and `G:gateway-proxy`, what nobody wants dropped in
//! silence: they are left alone.

use anyhow::Result;
use clap::Args;
use optic::config::{BrokerAccess, Group};
use serde_json::{Map, Value, json};

use super::environment::{Environment, read_file, wrong};
use super::exit::{Exit, ExitWith};
use super::output;

/// How to bound queues.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  optic policies --max-length 100000 --message-ttl 10m | sh
  optic policies --json | curl -u guest:guest -H content-type:application/json -X POST --data-binary @- \\
      http://localhost:15672/api/definitions

Without any bound the queues get --max-length 1000000. RabbitMQ drops the oldest events of a queue that is full.")]
pub struct PoliciesArgs {
    /// The most events in a queue
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_length: Option<u64>,
    /// The most bytes in a queue
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    max_bytes: Option<u64>,
    /// How long an event waits in a queue, such as 10m
    #[arg(long, value_name = "TIME", value_parser = time_to_live)]
    message_ttl: Option<u64>,
    /// The group [default: BROKER_GROUP, else gateway]
    #[arg(long)]
    group: Option<String>,
    /// The virtual host
    #[arg(long, default_value = "/")]
    vhost: String,
    /// Print definitions for the management API in place of rabbitmqctl commands
    #[arg(long)]
    json: bool,
}

/// What holds when no bound is given: an outage of workers for hours, and still a bound.
const DEFAULT_MAX_LENGTH: u64 = 1_000_000;

pub fn run(args: PoliciesArgs, environment: &Environment) -> Result<()> {
    let group = match &args.group {
        Some(name) => group_of(name)?,
        None => BrokerAccess::from_vars(environment.vars(), read_file).map_err(wrong)?.0.group,
    };
    let text = if args.json { definitions(&args, &group) } else { commands(&args, &group) };
    output::print(&(text + "\n"))?;
    Ok(())
}

/// A group from the command line.
pub fn group_of(name: &str) -> Result<Group> {
    let wrong = |(problem, remedy)| ExitWith::new(Exit::Usage, format_args!("--group {name:?}: {problem}; {remedy}"));
    Ok(Group::parse(name).map_err(wrong)?)
}

fn time_to_live(text: &str) -> Result<u64, String> {
    let time = optic::config::duration(text).ok_or("not a duration: write such as 10m, 30s or 1h30m")?;
    match u64::try_from(time.as_millis()) {
        Ok(0) => Err("events would be dropped at once".to_owned()),
        Ok(milliseconds) if milliseconds <= u64::from(u32::MAX) => Ok(milliseconds),
        _ => Err("longer than RabbitMQ counts: at most 49d".to_owned()),
    }
}

fn definition(args: &PoliciesArgs) -> Value {
    let mut definition = Map::new();
    let bounds =
        [("max-length", args.max_length), ("max-length-bytes", args.max_bytes), ("message-ttl", args.message_ttl)];
    for (name, bound) in bounds {
        if let Some(bound) = bound {
            definition.insert(name.to_owned(), bound.into());
        }
    }
    if definition.is_empty() {
        definition.insert("max-length".to_owned(), DEFAULT_MAX_LENGTH.into());
    }
    definition.insert("overflow".to_owned(), "drop-head".into());
    Value::Object(definition)
}

/// The group's queues of events, with and without subgroup, but for those that are Optic's own and those of commands.
fn pattern(group: &Group) -> String {
    format!("^{}:(?!optic:|SINGYEONG_|(?:SEND|REJECTED|gateway|gateway-proxy|[0-9]+)$)", escaped(group.as_str()))
}

fn escaped(text: &str) -> String {
    let mut regex = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$#-/".contains(c) {
            regex.push('\\');
        }
        regex.push(c);
    }
    regex
}

fn commands(args: &PoliciesArgs, group: &Group) -> String {
    format!(
        "# Bounds the queues of {group}'s events, not those of commands and sessions; a queue has one policy, that of the highest priority.\n\
         rabbitmqctl set_policy --vhost {} --apply-to queues --priority 1 {} {} {}",
        quoted(&args.vhost),
        quoted(&format!("{group}-events")),
        quoted(&pattern(group)),
        quoted(&definition(args).to_string()),
    )
}

/// As one word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn definitions(args: &PoliciesArgs, group: &Group) -> String {
    let policy = json!({
        "vhost": args.vhost,
        "name": format!("{group}-events"),
        "pattern": pattern(group),
        "apply-to": "queues",
        "definition": definition(args),
        "priority": 1,
    });
    format!("{:#}", json!({ "policies": [policy] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(max_length: Option<u64>) -> PoliciesArgs {
        let (max_bytes, message_ttl, group) = (None, Some(600_000), None);
        PoliciesArgs { max_length, max_bytes, message_ttl, group, vhost: "/".to_owned(), json: false }
    }

    #[test]
    fn a_command_sets_the_bounds_and_drops_the_oldest() {
        let text = commands(&args(Some(1000)), &Group::default());
        let expected = "rabbitmqctl set_policy --vhost '/' --apply-to queues --priority 1 'gateway-events' \
                        '^gateway:(?!optic:|SINGYEONG_|(?:SEND|REJECTED|gateway|gateway-proxy|[0-9]+)$)' '{\"max-length\":1000,\"message-ttl\":600000,\"overflow\":\"drop-head\"}'";
        assert_eq!(text.lines().nth(1), Some(expected));
    }

    #[test]
    fn the_group_is_escaped_for_regex_and_shell() {
        let group = Group::parse("it's.b+t").expect("a group");
        assert_eq!(
            pattern(&group),
            r"^it's\.b\+t:(?!optic:|SINGYEONG_|(?:SEND|REJECTED|gateway|gateway-proxy|[0-9]+)$)"
        );
        assert!(commands(&args(None), &group).contains(r"'^it'\''s\.b\+t:(?!optic:"));
    }

    #[test]
    fn definitions_are_what_the_management_api_imports() {
        let json: Value = serde_json::from_str(&definitions(&args(None), &Group::default())).expect("JSON");
        assert_eq!(
            json["policies"][0]["pattern"],
            "^gateway:(?!optic:|SINGYEONG_|(?:SEND|REJECTED|gateway|gateway-proxy|[0-9]+)$)"
        );
        assert_eq!(json["policies"][0]["definition"]["overflow"], "drop-head");
    }

    #[test]
    fn times_are_bounded() {
        assert_eq!(time_to_live("10m"), Ok(600_000));
        for text in ["0", "60d", "soon"] {
            assert!(time_to_live(text).is_err(), "{text}");
        }
    }
}
