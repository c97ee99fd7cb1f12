//! `optic check`: what would run, in words, and what is doubtful about it. Connects to nothing.

use std::fmt::Write as _;

use anyhow::Result;
use optic::config::{
    Broker, ClusterMode, Config, Discord, EventFilter, ForwardTo, HttpReaders, ShardPlan, Store, Warning,
};
use optic::encoding::Dialect;

use super::environment::Environment;
use super::output;

pub fn run(environment: &Environment) -> Result<()> {
    let (config, warnings) = environment.config()?;
    output::print(&describe(&config, &warnings))?;
    Ok(())
}

fn describe(config: &Config, warnings: &[Warning]) -> String {
    let mut page = Page::default();
    match &config.discord {
        Some(bot) => describe_bot(&mut page, bot, config.cluster.mode),
        None => page.row("shards", "none: there is no DISCORD_TOKEN"),
    }
    match &config.broker {
        Broker::Stdio => {
            page.row("broker", "stdio: events as JSON lines on standard output, commands on standard input")
        }
        Broker::Amqp(amqp) => {
            page.row("broker", format!("amqp, {}", amqp.url));
            page.row("group", &amqp.group);
            page.row("node", format!("{}: so the logs of other processes call this one", config.cluster.node));
            let kept = if amqp.persistent { "written to disk" } else { "in memory alone" };
            let until = match amqp.message_timeout {
                Some(time) => format!("dropped after {time:?} in a queue"),
                None => "never expiring".to_owned(),
            };
            page.row("messages", format!("{kept}, {until}"));
            page.row("bodies", amqp.dialect.map_or("as Discord wrote them", Dialect::name));
            page.rows("declared", amqp.declare.iter().map(|queue| queue.name(&amqp.group)));
        }
    }
    page.row(
        "sessions",
        match &config.store {
            Store::Amqp { prefix } => format!("in RabbitMQ, queues <group>:{prefix}.<shard>"),
            Store::File { folder } => format!("in files, folder {}", folder.display()),
            Store::Memory => "in memory alone: a restart begins new ones".to_owned(),
        },
    );
    if let Some(singyeong) = &config.singyeong {
        let auth = if singyeong.auth.is_some() {
            "password set (not shown)"
        } else {
            "no password: every client may do everything"
        };
        page.row("신경", format!("ws://{}/gateway/websocket, {auth}", singyeong.address));
        page.rows("proxied to", singyeong.proxy_allow.iter().map(|network| format!("{network}, and what is public")));
    }
    if let Some(forwarding) = &config.forwarding {
        let to = match &forwarding.to {
            ForwardTo::BuiltIn => "the 신경 server of this group".to_owned(),
            ForwardTo::Another(dsn) => dsn.to_string(),
        };
        page.row("forwarded", format!("by {} rules to {to}", forwarding.rules.len()));
    }
    if let Some(amybot) = &config.amybot {
        let websocket = amybot.address.map(|address| format!(", and ws://{address}/gateway/amybot"));
        let websocket = websocket.unwrap_or_default();
        let shards = match amybot.shard_count {
            Some(count) => format!("{count} shards"),
            None => "as many shards as another process of the group says".to_owned(),
        };
        page.row("amybot", format!("{shards}, over RabbitMQ{websocket}"));
    }
    page.row("health", config.http.map_or("off".to_owned(), |address| format!("http://{address}/health/ready")));
    if config.http.is_some() {
        page.row(
            "page",
            match (config.http_readers, &config.http_token) {
                (HttpReaders::Token, _) => "for whoever tells HTTP_TOKEN",
                (HttpReaders::Loopback, Some(_)) => "for this machine, and for whoever tells HTTP_TOKEN",
                (HttpReaders::Loopback, None) => "for this machine alone: HTTP_TOKEN is not set",
            },
        );
        let is_on = config.http_token.is_some();
        page.row("admin", if is_on { "token set (not shown)" } else { "off: HTTP_TOKEN is not set" });
    }
    if config.http.is_some() || config.prometheus.is_some() {
        let own = config.http.map(|address| format!("http://{address}/metrics"));
        let also = config.prometheus.as_ref().map(|at| format!("http://{}{}", at.address, at.endpoint));
        let also = also.filter(|also| own.as_ref() != Some(also));
        page.rows("metrics", own.into_iter().chain(also));
    }
    page.row("log", format!("{}, {:?}", config.log.filter, config.log.format).to_lowercase());
    page.rows("warnings", warnings);
    page.text
}

fn describe_bot(page: &mut Page, bot: &Discord, mode: ClusterMode) {
    page.row("token", "set (not shown)");
    page.row("discord", format!("{}, {}, compression {}", bot.api.base_url(), bot.encoding, bot.compression));
    page.row("shards", shards(&bot.shards, mode));
    match &bot.events {
        EventFilter::Auto => page.row("events", "auto: those that have a queue"),
        EventFilter::Listed(names) => page.rows("events", names.iter()),
    }
    page.rows("intents", bot.intents.notes());
    if let Some(threshold) = bot.large_threshold {
        page.row("large guilds", format!("from {threshold} members on"));
    }
    if let Some(presence) = &bot.presence {
        page.row("presence", presence.get());
    }
}

fn shards(plan: &ShardPlan, mode: ClusterMode) -> String {
    if mode == ClusterMode::Leased {
        let all = match plan.count() {
            Some(count) => format!("{count} shards"),
            None => "as many shards as the group's first process was advised by Discord".to_owned(),
        };
        return format!("leased: a fair share of {all}, with all processes of the group");
    }
    let here = |count: u32| {
        let shards = plan.shards(count).unwrap_or_default();
        ranges(shards.iter().map(|shard| shard.id().get()))
    };
    match (plan.count(), plan.ids()) {
        (None, None) => "as many as Discord advises, all here".to_owned(),
        (None, Some(ids)) => format!("{} of as many as Discord advises", ranges(ids)),
        (Some(count), _) => format!("{} of {count}", here(count)),
    }
}

/// `0, 1, 4-7`, from numbers in order.
fn ranges(ids: impl IntoIterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => runs.push((id, id)),
        }
    }
    let words = runs.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// As wide as labels are.
const LABEL: usize = 13;

/// As wide as a line is.
const WIDTH: usize = 100;

/// Rows of a label and a text, the texts below each other.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// A text that is too long goes on below itself.
    fn row(&mut self, label: &str, text: impl std::fmt::Display) {
        let text = text.to_string();
        let mut line = format!("{label:<LABEL$}");
        for word in text.split(' ') {
            if line.trim_end().len() > LABEL && line.len() + 1 + word.len() > WIDTH {
                writeln!(self.text, "{line}").expect("text takes text");
                line = format!("{:<LABEL$}", "");
            }
            line.push(' ');
            line.push_str(word);
        }
        writeln!(self.text, "{line}").expect("text takes text");
    }

    /// One label for several texts; nothing for none.
    fn rows<T: std::fmt::Display>(&mut self, label: &str, texts: impl IntoIterator<Item = T>) {
        let mut label = label;
        for text in texts {
            self.row(label, text);
            label = "";
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(vars: &[(&str, &str)]) -> String {
        let vars = vars.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let none = |_: &std::path::Path| unreachable!("no file is named");
        let (config, warnings) = Config::from_vars(vars, none).expect("a good configuration");
        describe(&config, &warnings)
    }

    #[test]
    fn everything_that_would_run_is_said_and_no_secret() {
        let text = described(&[
            ("DISCORD_TOKEN", "hunter2.a.b"),
            ("DISCORD_EVENTS", "MESSAGE_CREATE,GUILD_MEMBER_ADD"),
            ("DISCORD_SHARD_COUNT", "16"),
            ("DISCORD_SHARD_IDS", "0,1,4-7,9"),
            ("AMQP_URL", "amqps://me:hunter2@mq/bots"),
            ("BROKER_MESSAGE_TIMEOUT", "2m"),
            ("BROKER_DECLARE", "web:MESSAGE_CREATE"),
            ("HTTP_ADDRESS", "off"),
            ("PROMETHEUS_ADDRESS", ":9100"),
            ("PROMETHEUS_ENDPOINT", "/prom"),
            ("BROKER_GRUOP", "x"),
        ]);
        let expected = "\
token         set (not shown)
discord       https://discord.com/api/v10, json, compression zlib-stream
shards        0, 1, 4-7, 9 of 16
events        GUILD_MEMBER_ADD
              MESSAGE_CREATE
intents       intents, derived from DISCORD_EVENTS: GUILD_MEMBERS | GUILD_MESSAGES | DIRECT_MESSAGES
              privileged, to be switched on in Discord's developer portal: GUILD_MEMBERS
              messages come without their content, but for direct messages and mentions: for all of
              it name every intent in DISCORD_INTENTS, with MESSAGE_CONTENT, which is privileged
broker        amqp, amqps://***@mq/bots
group         gateway
node          optic: so the logs of other processes call this one
messages      written to disk, dropped after 120s in a queue
bodies        as Discord wrote them
declared      gateway:web:MESSAGE_CREATE
sessions      in RabbitMQ, queues <group>:optic:session.<shard>
health        off
metrics       http://0.0.0.0:9100/prom
log           info, text
warnings      BROKER_GRUOP: not a variable of Optic, and not read; did you mean BROKER_GROUP?
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_singyeong_server_may_run_without_a_bot() {
        let text = described(&[
            ("AMQP_URL", "amqp://mq"),
            ("SINGYEONG_ADDRESS", "0.0.0.0:4000"),
            ("SINGYEONG_AUTH", "hunter2"),
        ]);
        assert!(text.starts_with("shards        none: there is no DISCORD_TOKEN\n"), "{text}");
        assert!(text.contains("ws://0.0.0.0:4000/gateway/websocket, password set (not shown)\n"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn services_have_shards_only_where_somebody_says_how_many() {
        let address = ("AMYBOT_ADDRESS", "127.0.0.1:4001");
        let text = described(&[("AMQP_URL", "amqp://mq"), address]).replace("\n              ", " ");
        let websocket = "over RabbitMQ, and ws://127.0.0.1:4001/gateway/amybot\n";
        assert!(text.contains(&format!("as many shards as another process of the group says, {websocket}")), "{text}");
        let text = described(&[("AMQP_URL", "amqp://mq"), address, ("AMYBOT_SHARD_COUNT", "0")]);
        assert!(text.contains(&format!("0 shards, {websocket}")), "{text}");
    }

    #[test]
    fn leased_shards_are_a_share_of_all() {
        let leased = [("DISCORD_TOKEN", "a.b.c"), ("AMQP_URL", "amqp://mq"), ("CLUSTER_MODE", "leased")];
        let text = described(&[&leased[..], &[("DISCORD_SHARD_COUNT", "64"), ("CLUSTER_NODE", "web-1")]].concat());
        for needed in [
            "shards        leased: a fair share of 64 shards, with all processes of the group\n",
            "node          web-1: so the logs of other processes call this one\n",
        ] {
            assert!(text.contains(needed), "{needed}\n{text}");
        }
        let text = described(&leased).replace("\n              ", " ");
        let needed = "a fair share of as many shards as the group's first process was advised by Discord, with";
        assert!(text.contains(needed), "{text}");
    }

    #[test]
    fn who_reads_the_page_is_said() {
        let token = ("HTTP_TOKEN", "hunter2.hunter2.hunter2");
        for (vars, expected) in [
            (&[][..], "page          for this machine alone: HTTP_TOKEN is not set\n"),
            (&[token], "page          for this machine, and for whoever tells HTTP_TOKEN\n"),
            (&[token, ("HTTP_READERS", "token")], "page          for whoever tells HTTP_TOKEN\n"),
        ] {
            let text = described(&[&[("DISCORD_TOKEN", "a.b.c")], vars].concat());
            assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_token_alone_runs_what_discord_advises_on_standard_output() {
        let text = described(&[("DISCORD_TOKEN", "a.b.c")]);
        for needed in [
            "shards        as many as Discord advises, all here\n",
            "events        auto",
            "broker        stdio: events",
        ] {
            assert!(text.contains(needed), "{needed}\n{text}");
        }
    }
}
