//! The command line: what can be asked of the program, and each command in a file of its own.

mod check;
mod demo;
mod environment;
mod exit;
mod health;
mod http;
mod output;
mod policies;
mod reshard;
mod run;
mod service;
mod signals;
mod simulate;
mod tail;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use environment::Environment;
pub use exit::{Exit, ExitWith};

const INTRO: &str = "\
Runs Discord gateway shards and hands their events to RabbitMQ, none lost.

Optic is configured by environment variables: DISCORD_TOKEN is the one it needs, AMQP_URL the one you want. Without AMQP_URL \
events come as JSON lines on standard output. `optic check` says what would run.";

const EXAMPLES: &str = "\
Examples:
  DISCORD_TOKEN=… optic                              events on standard output, to have a look
  optic --env-file .env                              as the variables in .env say
  optic --env-file .env check                        what would run, and what is wrong
  optic tail MESSAGE_CREATE GUILD_CREATE             a worker that prints events
  optic simulate --rate 100                          a Discord of your own, to work offline
  optic demo                                         all of it at work, with the RabbitMQ of AMQP_URL
  optic policies --max-length 100000 | sh            bound the queues of events
  optic --env-file .env reshard 32                   another number of shards, while the bot runs
  optic --env-file .env service list                 amybot's services, and who has which shard";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "optic",
    version,
    about = INTRO.lines().next().expect("a first line"),
    long_about = INTRO,
    after_help = "More: optic --help",
    after_long_help = format!("{EXAMPLES}\n\n{}\n\nEvery variable: spec/configuration.md and .env.example.", Exit::table()),
)]
pub struct Cli {
    /// A file of KEY=VALUE lines; what the environment sets goes before it
    #[arg(long, global = true, value_name = "PATH")]
    env_file: Option<PathBuf>,

    /// A file of sinGateway's (.yml, .json) or spec-tacles/gateway's (.toml); variables go before it
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,

    /// This process's number among the clusters, from 0: CLUSTER_ID
    #[arg(long, global = true, value_name = "NUMBER")]
    cluster: Option<u32>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the shards (this is what `optic` alone does)
    Run,
    /// Say what would run and what is wrong, and connect to nothing
    Check,
    /// Show it at work: a simulated Discord, two shards and a worker, with a real RabbitMQ
    Demo(demo::DemoArgs),
    /// Play Discord: a gateway on loopback for tests, demos and work offline
    Simulate(simulate::SimulateArgs),
    /// Print events as they come, as a worker of its own gets them
    Tail(tail::TailArgs),
    /// Print RabbitMQ policies that bound the queues of events
    Policies(policies::PoliciesArgs),
    /// Change how many shards a running bot has
    Reshard(reshard::ReshardArgs),
    /// Ask a running Optic whether it is ready: exit code 0 or 1
    Health(health::HealthArgs),
    /// Look at amybot's services, and have them stop or start anew
    Service(service::ServiceArgs),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    ///
    /// Whatever a person has to read; [`ExitWith::of`] says with which code to end.
    pub async fn execute(self) -> Result<()> {
        let environment = Environment::read(self.env_file.as_deref(), self.config.as_deref(), self.cluster)?;
        match self.command.unwrap_or(Command::Run) {
            Command::Run => run::run(&environment).await,
            Command::Check => check::run(&environment),
            Command::Demo(args) => demo::run(args, &environment).await,
            Command::Simulate(args) => {
                let stop = CancellationToken::new();
                signals::stop_on_signal(&stop, simulate::run(args, stop.clone())).await
            }
            Command::Tail(args) => tail::run(args, &environment).await,
            Command::Policies(args) => policies::run(args, &environment),
            Command::Reshard(args) => reshard::run(args, &environment).await,
            Command::Health(args) => health::run(args, &environment).await,
            Command::Service(args) => service::run(args, &environment).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_has_examples_and_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for needed in ["Examples:", "optic --env-file .env check", "78  the configuration is wrong"] {
            assert!(help.contains(needed), "{needed}\n{help}");
        }
    }
}
