//! `optic reshard`: another shard count for a bot that runs.
//!
//! Changes the cluster's record and tells the processes; the change is theirs then, and this only watches it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use optic::amqp::admin::Admin;
use optic::amqp::bus::{Bus, BusEvent};
use optic::amqp::record::ClusterRecord;
use optic::amqp::topology::{self, Queue};
use optic::clock::unix_millis;
use optic::cluster::agreement::{self, Record, RecordError};
use optic::cluster::announcement::Announcement;
use optic::cluster::change::Change;
use optic::cluster::node::NodeId;
use optic::config::{AmqpUrl, BrokerAccess, Group, Log, MOST_SHARDS};
use optic::discord::ids::ShardId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::environment::{Environment, read_file, wrong};
use super::exit::{Exit, ExitWith};
use super::output;
use super::policies::group_of;
use super::signals::stop_on_signal;
use super::tail::cannot_use;

/// What the bot is to have.
#[derive(Debug, Args)]
#[command(after_help = "\
Every process stops its shards in order, and when all have, the new ones start: each identifies, which takes max_concurrency \
shards in 5.5 s. Events of that time are lost, and told by OPTIC_GAP. Processes that set DISCORD_SHARD_COUNT go by the new count \
until they are restarted: change it before that.

This command reads AMQP_URL and BROKER_GROUP, and needs no token. Ended early, it changes nothing: the processes go on.

Example:
  optic --env-file .env reshard 32")]
pub struct ReshardArgs {
    /// How many shards the bot is to have
    #[arg(value_name = "SHARDS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_SHARDS)))]
    shards: u32,
    /// The group [default: BROKER_GROUP, else gateway]
    #[arg(long)]
    group: Option<String>,
}

/// What is said again until all have heard it.
const SAY_AGAIN: Duration = Duration::from_secs(2);

/// The name under which the record keeps who changed it.
const NAME: &str = "optic reshard";

pub async fn run(args: ReshardArgs, environment: &Environment) -> Result<()> {
    let (url, group, log) = access(&args, environment)?;
    optic::logging::init(&log, environment.wants_colours())?;
    let (admin, driver) = Admin::new(url.secret(), NAME).map_err(cannot_use)?;
    let node = NodeId::of_run(NAME, fastrand::u32(..));
    let (bus, bus_driver, heard) = Bus::new(admin.clone(), admin.clone(), group.as_str(), node);
    let (stop, leave, disconnect) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let working = async {
        let change = change(args.shards, &admin, group.as_str(), &bus, heard);
        let done = stop_on_signal(&stop, async {
            match stop.run_until_cancelled(change).await {
                Some(done) => done,
                None => Ok(say("not watching any more; the processes go on with the change")?),
            }
        })
        .await;
        leave.cancel();
        done
    };
    let listening = async {
        bus_driver.run(leave.clone()).await;
        disconnect.cancel();
    };
    tokio::join!(working, listening, driver.run(disconnect.clone())).0
}

fn access(args: &ReshardArgs, environment: &Environment) -> Result<(AmqpUrl, Group, Log)> {
    let vars = environment.vars().filter(|(name, _)| name != "BROKER_GROUP" || args.group.is_none());
    let (BrokerAccess { url, group, log }, _) = BrokerAccess::from_vars(vars, read_file).map_err(wrong)?;
    let group = args.group.as_deref().map_or(Ok(group), group_of)?;
    let url = url.ok_or_else(|| ExitWith::new(Exit::Configuration, "where is RabbitMQ? Set AMQP_URL"))?;
    Ok((url, group, log))
}

/// Changes the record, and watches what becomes of it.
async fn change(shards: u32, admin: &Admin, group: &str, bus: &Bus, mut heard: mpsc::Receiver<BusEvent>) -> Result<()> {
    // Listens before anything changes.
    admin.connected().await.map_err(cannot_use)?;
    while !matches!(heard.recv().await, Some(BusEvent::Up) | None) {}
    let (former, record) = write(shards, admin, group).await?;
    say(&format!("{group}: from {former} to {shards} shards"))?;
    if topology::consumers(admin, &Queue::send(group)).await.map_err(cannot_use)? == 0 {
        say("no process runs: the next one starts with it, unless DISCORD_SHARD_COUNT says otherwise")?;
        return Ok(());
    }
    let mut progress = Progress::new(&record);
    let mut tell = tokio::time::interval(SAY_AGAIN);
    loop {
        tokio::select! {
            _ = tell.tick() => bus.publish(Change { generation: record.generation }.to_json()),
            event = heard.recv() => match event {
                Some(BusEvent::Message(text)) => {
                    // What else is said is not about this.
                    let Ok(said) = Announcement::from_json(&text) else { continue };
                    if let Some(line) = progress.heard(&said).map_err(|why| ExitWith::new(Exit::Failed, why))? {
                        say(&line)?;
                    }
                    bus.watch(progress.nodes());
                    if progress.is_done() {
                        return Ok(());
                    }
                }
                Some(BusEvent::Gone(node)) => progress.gone(&node),
                Some(BusEvent::Up | BusEvent::Down) => {}
                None => return Ok(()),
            },
        }
    }
}

/// Writes the record; gives the former count, too.
async fn write(shards: u32, admin: &Admin, group: &str) -> Result<(u32, Record)> {
    #[derive(Debug, thiserror::Error)]
    enum Refused {
        #[error(transparent)]
        Record(#[from] RecordError),
        #[error(transparent)]
        Change(#[from] agreement::CannotReshard),
    }
    let decide = |stored: Option<Vec<u8>>| {
        let decided = stored.as_deref().map(Record::from_json).transpose().map_err(Refused::from).and_then(|stored| {
            let record = agreement::reshard(stored.as_ref(), shards, NAME, unix_millis())?;
            Ok((stored.map_or(0, |stored| stored.shard_count), record))
        });
        (decided.as_ref().ok().map(|(_, record)| record.to_json()), decided)
    };
    let decided = ClusterRecord::new(admin.clone(), group).update(decide).await.map_err(cannot_use)?;
    Ok(decided.map_err(|why| ExitWith::new(Exit::Failed, format_args!("{group}: {why}")))?)
}

fn say(line: &str) -> Result<()> {
    // Nobody has to read it.
    output::print(&format!("{line}\n")).map(drop)
}

/// How far the processes are, as they announce themselves.
struct Progress {
    generation: u64,
    shard_count: u32,
    said: BTreeMap<NodeId, Announcement>,
    last: Option<(usize, usize)>,
}

impl Progress {
    fn new(record: &Record) -> Self {
        Self { generation: record.generation, shard_count: record.shard_count, said: BTreeMap::new(), last: None }
    }

    /// Takes an announcement in; what there is to say, if it changed.
    fn heard(&mut self, said: &Announcement) -> Result<Option<String>, String> {
        if said.generation > self.generation {
            return Err("the number of shards was changed once more by somebody else".to_owned());
        }
        if said.is_newcomer() {
            return Ok(None);
        }
        match said.is_goodbye() {
            true => _ = self.said.remove(&said.node),
            false => _ = self.said.insert(said.node.clone(), said.clone()),
        }
        let now = (self.owned(false).len(), self.owned(true).len());
        if self.last.replace(now) == Some(now) {
            return Ok(None);
        }
        Ok(Some(format!(
            "{} of the former shards still run, {} of {} new ones are taken over",
            now.0, now.1, self.shard_count
        )))
    }

    fn gone(&mut self, node: &NodeId) {
        self.said.remove(node);
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.said.keys().cloned().collect()
    }

    /// All shards of the new count are held, and none of the former.
    fn is_done(&self) -> bool {
        self.owned(false).is_empty() && self.owned(true).len() == self.shard_count as usize
    }

    /// The shards that are held, of the new count or of those before.
    fn owned(&self, new: bool) -> BTreeSet<ShardId> {
        let those = self.said.values().filter(|said| (said.generation == self.generation) == new);
        those.flat_map(|said| said.owned.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use optic::cluster::announcement::Mode;

    use super::*;

    fn said(name: &str, generation: u64, owned: &[u32]) -> Announcement {
        Announcement {
            node: NodeId::of_run(name, 1),
            name: name.to_owned(),
            mode: Mode::Leased,
            shard_count: if generation == 1 { 4 } else { 3 },
            generation,
            owned: owned.iter().copied().map(ShardId::new).collect(),
            leaving: false,
            hello: false,
            settling: false,
            sequence: 1,
        }
    }

    #[test]
    fn it_is_done_when_all_new_shards_are_held_and_no_former_one() {
        let stored = Record {
            version: 1,
            generation: 1,
            shard_count: 4,
            set_by: "a".to_owned(),
            set_at: 0,
            bot: None,
            most: None,
        };
        let record = agreement::reshard(Some(&stored), 3, NAME, 0).expect("another count");
        let mut progress = Progress::new(&record);
        let mut hear = |said: Announcement| (progress.heard(&said).expect("not changed again"), progress.is_done());
        let line = "2 of the former shards still run, 0 of 3 new ones are taken over";
        assert_eq!(hear(said("a", 1, &[0, 1])), (Some(line.to_owned()), false));
        assert_eq!(hear(said("a", 1, &[0, 1])), (None, false), "nothing new");
        hear(said("b", 1, &[2]));
        hear(said("a", 2, &[0, 1, 2]));
        assert!(!progress.is_done(), "b still runs its one");
        progress.gone(&NodeId::of_run("b", 1));
        assert!(progress.is_done());
        assert!(progress.heard(&said("a", 3, &[])).is_err());
    }
}
