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
