//! `optic health`: asks a running Optic whether it is ready, for a container without another program to ask.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use hyper::{Request, StatusCode};
use optic::config::HttpAccess;
use url::Url;

use super::environment::{Environment, read_file, wrong};
use super::{http, output};

/// Whom to ask.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// What to ask [default: /health/ready at HTTP_ADDRESS]
    #[arg(long)]
    url: Option<Url>,
}

/// Longer than an answer takes, shorter than a container's healthcheck waits.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Where readiness is.
const PATH: &str = "/health/ready";

pub async fn run(args: HealthArgs, environment: &Environment) -> Result<()> {
    let url = match args.url {
        Some(url) => url,
        None => {
            let (access, _) = HttpAccess::from_vars(environment.vars(), read_file).map_err(wrong)?;
            http::url_of(access.address, PATH)?
        }
    };
    let (status, body) = http::ask(&url, Request::builder(), TIMEOUT).await.with_context(|| format!("{url}"))?;
    output::print(&body)?;
    if status != StatusCode::OK {
        bail!("{url}: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use optic::broker::BrokerState;
    use optic::discord::ids::ShardId;
    use optic::http::{Health, Server, ShardHealth, Site, Snapshot};
    use tokio_util::sync::CancellationToken;

    use super::super::exit::{Exit, ExitWith};
    use super::*;

    struct Told(BrokerState);

    impl Health for Told {
        fn snapshot(&self) -> Snapshot {
            let shard = ShardHealth { id: ShardId::new(0), state: "connected", connected: true };
            Snapshot { shards: vec![shard], broker: self.0, also_missing: Vec::new() }
        }
    }

    async fn health_with(broker: BrokerState) -> Result<()> {
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let (url, stop) = (http::url_of(Some(server.address()), PATH).expect("a URL"), CancellationToken::new());
        let task = tokio::spawn(server.run(Site::new(Arc::new(Told(broker))), stop.clone()));
        let environment = Environment::read(None, None, None).expect("the environment");
        let done = run(HealthArgs { url: Some(url) }, &environment).await;
        stop.cancel();
        task.await.expect("ends in order");
        done
    }

    #[tokio::test]
    async fn a_ready_service_is_fine_and_another_is_not() {
        health_with(BrokerState::Connected).await.expect("ready");
        let error = health_with(BrokerState::Disconnected).await.expect_err("not ready");
        assert!(error.to_string().ends_with("/health/ready: 503 Service Unavailable"), "{error}");
        assert_eq!(ExitWith::of(&error), Exit::Failed);
    }
}
