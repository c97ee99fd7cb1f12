//! Asks a running Optic by HTTP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::http::request::Builder;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use super::exit::{Exit, ExitWith};

/// An answer is a few hundred bytes; of many services, more.
const MOST_BYTES: usize = 4 << 20;

/// A page of a server that listens there: one that listens everywhere is asked on this machine.
pub fn url_of(address: Option<SocketAddr>, path: &str) -> Result<Url> {
    let Some(mut address) = address else {
        return Err(ExitWith::new(Exit::Configuration, "HTTP_ADDRESS is off: there is nobody to ask").into());
    };
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(Url::parse(&format!("http://{address}{path}"))?)
}

/// The answer to a request for this page, which comes within so long.
pub async fn ask(url: &Url, request: Builder, within: Duration) -> Result<(StatusCode, String)> {
    ask_at(url, &url[url::Position::BeforePath..], request, within).await
}

/// The same for a path that is to be sent as it is written: a URL would take `%2E%2E` for the way up.
pub async fn ask_at(url: &Url, path: &str, request: Builder, within: Duration) -> Result<(StatusCode, String)> {
    match tokio::time::timeout(within, answer(url, path, request)).await {
        Ok(answered) => answered,
        Err(_) => Err(anyhow!("no answer in {within:?}")),
    }
}

async fn answer(url: &Url, path: &str, request: Builder) -> Result<(StatusCode, String)> {
    let (Some(host), "http") = (url.host_str(), url.scheme()) else {
        return Err(ExitWith::new(Exit::Usage, "only http:// can be asked").into());
    };
    let port = url.port_or_known_default().unwrap_or(80);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port)).await.context("cannot connect")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = request.uri(path).header(HOST, host).body(Empty::<Bytes>::new())?;
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
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_asked_here() {
        for (address, url) in [
            ("0.0.0.0:9000", "http://127.0.0.1:9000/health/ready"),
            ("[::]:9000", "http://[::1]:9000/health/ready"),
            ("10.0.0.1:80", "http://10.0.0.1/health/ready"),
        ] {
            assert_eq!(url_of(address.parse().ok(), "/health/ready").expect("a URL").as_str(), url);
        }
        assert_eq!(ExitWith::of(&url_of(None, "/health/ready").expect_err("off")), Exit::Configuration);
    }
}
