//! The socket, plain or with TLS: reads and writes that never wait.
//!
//! `std::io` all through; when to try again is the driver's business. It shares the socket, to learn when it is ready.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// A connected, nonblocking socket.
#[derive(Debug)]
pub struct Transport {
    socket: Arc<TcpStream>,
    tls: Option<Box<ClientConnection>>,
}

impl Transport {
    /// Without TLS. The socket must be nonblocking.
    pub const fn plain(socket: Arc<TcpStream>) -> Self {
        Self { socket, tls: None }
    }

    /// With TLS. Its handshake happens along with the first reads and writes.
    ///
    /// # Errors
    /// When TLS cannot begin with that name.
    pub fn tls(socket: Arc<TcpStream>, config: Arc<ClientConfig>, host: &str) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self { socket, tls: Some(Box::new(connection)) })
    }

    /// The socket.
    pub const fn socket(&self) -> &Arc<TcpStream> {
        &self.socket
    }

    /// Whether TLS lies between.
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads what is there; 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; `InvalidData` when TLS fails.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return (&*self.socket).read(into) };
        loop {
            match tls.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if tls.read_tls(&mut &*self.socket)? == 0 {
                return Ok(0);
            }
            let result = tls.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
            // An answer of the handshake, or the alert that says what we did not like.
            flush(tls, &self.socket)?;
            result?;
        }
    }

    /// Writes some of `bytes`. With TLS they may wait here for [`flush`](Self::flush).
    ///
    /// # Errors
    /// `WouldBlock` when the socket takes nothing.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return (&*self.socket).write(bytes) };
        let taken = tls.writer().write(bytes)?;
        if !flush(tls, &self.socket)? && taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if taken > 0 { Ok(taken) } else { tls.writer().write(bytes) }
    }

    /// Writes what TLS still holds; whether nothing is left.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn flush(&mut self) -> io::Result<bool> {
        match &mut self.tls {
            None => Ok(true),
            Some(tls) => flush(tls, &self.socket),
        }
    }
}

fn flush(tls: &mut ClientConnection, socket: &TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(&mut &*socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    /// A TLS server for one connection that sends back `length` bytes; and its authority's certificate in a file.
    fn echo(length: usize) -> (std::net::SocketAddr, tempfile::NamedTempFile, thread::JoinHandle<io::Result<()>>) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let mut ca = tempfile::NamedTempFile::new().expect("a file");
        ca.write_all(own.cert.pem().as_bytes()).expect("written");
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("they fit");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || {
            let (socket, _) = listener.accept()?;
            let connection = ServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(connection, socket);
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes)?;
            stream.write_all(&bytes)?;
            stream.conn.send_close_notify();
            stream.flush()
        });
        (address, ca, server)
    }

    fn connect(address: std::net::SocketAddr, ca: Option<&std::path::Path>) -> Transport {
        let config = crate::tls::client_config(ca, None).expect("a configuration");
        let socket = TcpStream::connect(address).expect("listens");
        socket.set_nonblocking(true).expect("can be");
        Transport::tls(Arc::new(socket), config, "localhost").expect("a name")
    }

    /// `None`: not now.
    fn now_or_later(result: io::Result<usize>) -> io::Result<Option<usize>> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::yield_now();
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    #[test]
    fn what_is_written_through_tls_arrives_and_comes_back() {
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
        let (address, ca, server) = echo(sent.len());
        let mut transport = connect(address, Some(ca.path()));
        let (mut written, mut received) = (0, Vec::new());
        let mut buffer = [0; 8192];
        while received.len() < sent.len() {
            if written < sent.len() {
                written += now_or_later(transport.write(&sent[written..])).expect("writes").unwrap_or(0);
            }
            transport.flush().expect("flushes");
            if let Some(n) = now_or_later(transport.read(&mut buffer)).expect("reads") {
                assert!(n > 0, "not the end yet");
                received.extend_from_slice(&buffer[..n]);
            }
        }
        assert!(received == sent);
        assert_eq!(
            loop {
                if let Some(n) = now_or_later(transport.read(&mut buffer)).expect("reads") {
                    break n;
                }
            },
            0
        );
        server.join().expect("no panic").expect("served");
    }

    #[test]
    fn a_certificate_of_an_unknown_authority_is_refused() {
        let (address, _ca, server) = echo(1);
        let mut transport = connect(address, None);
        let mut buffer = [0; 16];
        let error = loop {
            transport.flush().expect("flushes");
            match now_or_later(transport.read(&mut buffer)) {
                Ok(None) => {}
                Ok(Some(n)) => panic!("read {n} bytes"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(server.join().expect("no panic").is_err(), "the server is told");
    }
}
