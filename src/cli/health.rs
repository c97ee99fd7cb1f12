//! `optic health`: asks a running Optic whether it is ready, for a container without another program to ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use super::environment::{Environment, read_file, wrong};
use super::exit::{Exit, ExitWith};
use super::output;

/// Whom to ask.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// What to ask [default: /health/ready at HTTP_ADDRESS]
    #[arg(long)]
    url: Option<Url>,
}

/// Longer than an answer takes, shorter than a container's healthcheck waits.
const TIMEOUT: Duration = Duration::from_secs(4);

/// An answer is a few hundred bytes.
const MOST_BYTES: usize = 64 * 1024;

pub async fn run(args: HealthArgs, environment: &Environment) -> Result<()> {
    let url = match args.url {
        Some(url) => url,
        None => url_of(optic::config::HttpAccess::from_vars(environment.vars(), read_file).map_err(wrong)?.0.address)?,
    };
    let asked = match tokio::time::timeout(TIMEOUT, ask(&url)).await {
        Ok(asked) => asked,
        Err(_) => Err(anyhow!("no answer in {TIMEOUT:?}")),
    };
    let (status, body) = asked.with_context(|| format!("{url}"))?;
    output::print(&body)?;
    if status != StatusCode::OK {
        bail!("{url}: {status}");
    }
    Ok(())
}

/// The page of a server that listens there: one that listens everywhere is asked on this machine.
fn url_of(address: Option<SocketAddr>) -> Result<Url> {
    let Some(mut address) = address else {
        return Err(ExitWith::new(Exit::Configuration, "HTTP_ADDRESS is off: there is nobody to ask").into());
    };
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(Url::parse(&format!("http://{address}/health/ready"))?)
}

async fn ask(url: &Url) -> Result<(StatusCode, String)> {
    let (Some(host), "http") = (url.host_str(), url.scheme()) else {
        return Err(ExitWith::new(Exit::Usage, "only http:// can be asked").into());
    };
    let port = url.port_or_known_default().unwrap_or(80);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port)).await.context("cannot connect")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(&url[url::Position::BeforePath..]).header(HOST, host).body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|why| anyhow!("the answer cannot be read: {why}"))?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            // Its end leaves what was read for the answer, which then ends as well.
            _ = &mut connection, if open => open = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use optic::broker::BrokerState;
    use optic::discord::ids::ShardId;
    use optic::http::{Health, Server, ShardHealth, Snapshot};
    use tokio_util::sync::CancellationToken;

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
        let (url, stop) = (url_of(Some(server.address())).expect("a URL"), CancellationToken::new());
        let task = tokio::spawn(server.run(Arc::new(Told(broker)), stop.clone()));
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

    #[test]
    fn a_server_that_listens_everywhere_is_asked_here() {
        for (address, url) in [
            ("0.0.0.0:9000", "http://127.0.0.1:9000/health/ready"),
            ("[::]:9000", "http://[::1]:9000/health/ready"),
            ("10.0.0.1:80", "http://10.0.0.1/health/ready"),
        ] {
            assert_eq!(url_of(address.parse().ok()).expect("a URL").as_str(), url);
        }
        assert_eq!(ExitWith::of(&url_of(None).expect_err("off")), Exit::Configuration);
    }
}
