//! The socket of a websocket whose handshake is over: what is waited for, and one read.

use std::io;

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::frames::Reader;

/// So much is read at a time.
const CHUNK: usize = 16 << 10;

/// What to wait for; `None`: nothing of it.
pub fn interest(reads: bool, writes: bool) -> Option<Interest> {
    match (reads, writes) {
        (true, false) => Some(Interest::READABLE),
        (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
        (false, true) => Some(Interest::WRITABLE),
        (false, false) => None,
    }
}

/// Reads once, and waits for nothing; whether there may be more. The end is `false`.
///
/// # Errors
/// The connection is broken.
pub fn read(stream: &TcpStream, reader: &mut Reader) -> io::Result<bool> {
    let mut chunk = [0; CHUNK];
    match stream.try_read(&mut chunk) {
        Ok(0) => Ok(false),
        Ok(count) => {
            reader.push(&chunk[..count]);
            Ok(true)
        }
        // Woken for nothing.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}
