//! The whole way with TLS on both sides, as in production: `https` and `wss` to Discord, `amqps` to RabbitMQ. TLS ends in proxies
//! here, since neither the simulator nor the test's RabbitMQ speaks it. spec/discord.md, "Connecting"; spec/amqp.md, "Address".

mod common;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use common::{Bed, broker};
use optic::simulator::Settings;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use url::Url;

/// A certificate for `localhost`, its own authority.
struct Certificate {
    acceptor: TlsAcceptor,
    file: tempfile::NamedTempFile,
}

impl Certificate {
    fn new() -> Self {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(own.cert.pem().as_bytes()).expect("written");
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("they fit");
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), file }
    }

    fn path(&self) -> &str {
        self.file.path().to_str().expect("a path in UTF-8")
    }
}

/// Takes TLS off what comes to `listener` and passes it on, both ways.
async fn terminate(listener: TcpListener, acceptor: TlsAcceptor, to: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((outside, _)) = listener.accept().await else { return };
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // Whoever does not trust the certificate leaves here.
            let Ok(mut outside) = acceptor.accept(outside).await else { return };
            let mut inside = TcpStream::connect(to).await.expect("the server behind the proxy");
            let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
        });
    }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tls_on_both_sides_events_arrive_and_sessions_are_resumed() {
    let certificate = Certificate::new();
    let (discord_side, discord_port) = listen().await;
    let (broker_side, broker_port) = listen().await;
    let plain = Url::parse(&broker()).expect("a URL");
    let mut amqps = plain.clone();
    amqps.set_scheme("amqps").expect("amqp becomes amqps");
    amqps.set_host(Some("localhost")).expect("a host");
    amqps.set_port(Some(broker_port)).expect("a port");
    amqps.query_pairs_mut().append_pair("cacertfile", certificate.path());

    let settings = Settings { public_url: Some(format!("wss://localhost:{discord_port}")), ..Bed::settings() };
    let bed = Bed::new(&broker(), settings)
        .with("AMQP_URL", amqps.as_str())
        .with("DISCORD_API_PROTOCOL", "https")
        .with("DISCORD_API_HOST", &format!("localhost:{discord_port}"))
        .with("SSL_CERT_FILE", certificate.path());
    let mut broker_address = tokio::net::lookup_host((plain.host_str().expect("a host"), plain.port().unwrap_or(5672)))
        .await
        .expect("the broker's address");
    let broker_address = broker_address.next().expect("an address");
    let mut proxies = JoinSet::new();
    proxies.spawn(terminate(discord_side, certificate.acceptor.clone(), bed.gateway.address()));
    proxies.spawn(terminate(broker_side, certificate.acceptor.clone(), broker_address));

    let consumer = bed.consumer(&broker()).await;
    let mut optic = bed.optic();
    bed.gateway.connected(1).await;
    bed.gateway.flood(2_000);
    bed.gateway.reached(&consumer, 2_000).await;
    bed.gateway.control("reconnect", "");
    optic.wait_for_line("session resumed").await;
    optic.terminate().await;
    assert_eq!(optic.wait().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_nobody_vouches_for_is_refused_and_the_token_stays_here() {
    let (listener, port) = listen().await;
    let trusted = Certificate::new();
    let bed = Bed::new(&broker(), Bed::settings())
        .with("DISCORD_API_PROTOCOL", "https")
        .with("DISCORD_API_HOST", &format!("localhost:{port}"))
        .with("SSL_CERT_FILE", trusted.path());
    let mut proxies = JoinSet::new();
    proxies.spawn(terminate(listener, Certificate::new().acceptor, bed.gateway.address()));
    let optic = bed.optic();
    let line = optic.wait_for_line("Discord does not tell where its gateway is").await;
    assert!(line.contains("invalid peer certificate"), "{line}");
    assert_eq!(bed.gateway.stats().connections, 0);
}
