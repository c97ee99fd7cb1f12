//! spec/configuration.md, held.

mod documentation;
mod mistakes;
mod secrets;
mod values;
mod warnings;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

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

fn bot(config: &Config) -> &Discord {
    config.discord.as_ref().expect("a bot")
}

fn shards(config: &Config, advised: u32) -> Vec<(u32, u32)> {
    let shards = bot(config).shards.shards(advised).expect("shards");
    shards.into_iter().map(|shard: Shard| (shard.id().get(), shard.count())).collect()
}

fn listed(config: &Config) -> BTreeSet<&str> {
    match &bot(config).events {
        EventFilter::Listed(names) => names.iter().map(String::as_str).collect(),
        EventFilter::Auto => panic!("auto"),
    }
}
