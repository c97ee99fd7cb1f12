//! `optic simulate`: a Discord gateway on this machine.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use optic::discord::intents::Intents;
use optic::secret::Secret;
use optic::simulator::{Mix, Settings, Simulator, Start};
use tokio_util::sync::CancellationToken;

/// Run a strict Discord gateway on this machine: for working offline, tests and benchmarks.
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7000")]
    address: SocketAddr,
    /// What clients must call it, when they cannot reach it as they called it (behind a proxy)
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// A file that holds the only token that is right [default: any token is]
    #[arg(long, value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,

    /// Events a second over all shards; 0: as fast as the client reads
    #[arg(long, value_name = "EVENTS", default_value_t = 10.0, help_heading = "Traffic")]
    rate: f64,
    /// Stop after so many events a shard [default: never]
    #[arg(long, value_name = "N", help_heading = "Traffic")]
    events: Option<u64>,
    /// Begin with POST /control/start instead of at once
    #[arg(long, help_heading = "Traffic")]
    wait: bool,
    /// Compress a flood (--rate 0 --events N) before it begins, so that it costs nothing while it runs
    #[arg(long, requires = "events", help_heading = "Traffic")]
    prebuilt: bool,
    /// presences, no-presences, or EVENT=WEIGHT,EVENT=WEIGHT
    #[arg(long, default_value = "no-presences", help_heading = "Traffic")]
    mix: Mix,
    /// Traffic is the same for the same seed, shard and intents
    #[arg(long, default_value_t = 1, help_heading = "Traffic")]
    seed: u64,
    /// Every Nth event is a large one; 0: none
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Traffic")]
    large_every: u64,
    /// How large
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, help_heading = "Traffic")]
    large_bytes: usize,
    /// Write the time of sending into each event, as d._sim_ts (microseconds since 1970)
    #[arg(long, help_heading = "Traffic")]
    stamp: bool,

    /// Guilds of the bot, over all shards
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = "The bot")]
    guilds: u64,
    /// Members of each guild, as far as a client asks for them
    #[arg(long, value_name = "N", default_value_t = 2_500, help_heading = "The bot")]
    members: u32,
    /// Fill each GUILD_CREATE up to this size
    #[arg(long, value_name = "BYTES", default_value_t = 0, help_heading = "The bot")]
    guild_bytes: usize,
    /// The shard count that /gateway/bot recommends
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "The bot")]
    shards: u32,
    /// Intents that the bot was not granted, by name, commas between: identifying with one ends in 4014
    #[arg(long, value_name = "INTENTS", value_delimiter = ',', value_parser = intent, help_heading = "The bot")]
    deny: Vec<Intents>,

    /// Shards that may identify at once
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Limits")]
    max_concurrency: u32,
    /// How long an identify blocks the next of its key, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000, help_heading = "Limits")]
    identify_window: u64,
    /// Session starts a day
    #[arg(long, value_name = "N", default_value_t = 1_000, help_heading = "Limits")]
    session_starts: u32,
    /// Shard counts must be a multiple of this, else 4010
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Limits")]
    shard_multiple: u32,
    /// Guilds that a shard may have, else 4011
    #[arg(long, value_name = "N", default_value_t = 2_500, help_heading = "Limits")]
    guilds_per_shard: u64,
    /// Packets that a client may send in 60 s, else 4008
    #[arg(long, value_name = "N", default_value_t = 120, help_heading = "Limits")]
    send_limit: usize,

    /// Heartbeat interval, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 41_250, help_heading = "Sessions")]
    heartbeat: u64,
    /// How long a session outlives its connection, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 90_000, help_heading = "Sessions")]
    session_lifetime: u64,
    /// Events that a session holds for a resume
    #[arg(long, value_name = "N", default_value_t = 100_000, help_heading = "Sessions")]
    replay: usize,
    /// No events come to be while a session has no connection
    #[arg(long, help_heading = "Sessions")]
    pause_while_away: bool,
    /// Cut each zlib-stream packet into up to so many websocket messages
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Sessions")]
    split_messages: usize,
    /// Cut each websocket message into up to so many frames
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Sessions")]
    split_frames: usize,
}

/// Serves until `stop`.
pub async fn run(args: SimulateArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let settings = args.settings()?;
    let wanted = settings.address;
    let simulator = Simulator::bind(settings)
        .await
        .with_context(|| format!("cannot listen on {wanted}; --address 127.0.0.1:0 takes a free port"))?;
    let address = simulator.address();
    if !address.ip().is_loopback() {
        eprintln!("warning: {address} is no loopback address: whoever reaches it controls this simulator");
    }
    println!(
        "Discord simulator listening on http://{address} (Optic: DISCORD_API_PROTOCOL=http DISCORD_API_HOST={address}; \
         discord.py: discord.http.Route.BASE = \"http://{address}/api/v10\"; \
         misbehave: curl -X POST http://{address}/control/reconnect; show: curl http://{address}/control/stats)"
    );
    simulator.run(stop).await;
    Ok(())
}

impl SimulateArgs {
    fn settings(self) -> anyhow::Result<Settings> {
        anyhow::ensure!(self.rate.is_finite() && self.rate >= 0.0, "--rate {} is not a rate", self.rate);
        anyhow::ensure!(self.heartbeat > 0, "--heartbeat 0: an interval is needed");
        anyhow::ensure!(!self.prebuilt || self.rate == 0.0, "--prebuilt is for a flood: add --rate 0");
        let token = match &self.token_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
                Some(Secret::new(text.trim()))
            }
            None => None,
        };
        let denied = self.deny.iter().fold(Intents::NONE, |set, intent| set.union(*intent));
        Ok(Settings {
            address: self.address,
            public_url: self.public_url,
            token,
            guilds: self.guilds,
            members: self.members,
            guild_bytes: self.guild_bytes,
            recommended_shards: self.shards,
            shard_multiple: self.shard_multiple,
            guilds_per_shard: self.guilds_per_shard,
            granted: Intents::PRIVILEGED.without(denied),
            max_concurrency: self.max_concurrency,
            identify_window: Duration::from_millis(self.identify_window),
            session_starts: self.session_starts,
            send_limit: self.send_limit,
            heartbeat_interval: Duration::from_millis(self.heartbeat),
            session_lifetime: Duration::from_millis(self.session_lifetime),
            replay_events: self.replay,
            produce_while_away: !self.pause_while_away,
            seed: self.seed,
            mix: self.mix,
            rate: self.rate,
            events: self.events,
            start: if self.wait { Start::OnControl } else { Start::AtOnce },
            prebuilt: self.prebuilt,
            large_every: self.large_every,
            large_bytes: self.large_bytes,
            stamp: self.stamp,
            split_messages: self.split_messages,
            split_frames: self.split_frames,
            ..Settings::default()
        })
    }
}

fn intent(name: &str) -> Result<Intents, String> {
    let intent = Intents::from_name(name).filter(|intent| Intents::PRIVILEGED.contains(*intent));
    intent.ok_or_else(|| "only GUILD_MEMBERS, GUILD_PRESENCES and MESSAGE_CONTENT can be denied".to_owned())
}
