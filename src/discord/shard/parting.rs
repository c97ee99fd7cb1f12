//! A connection that we end: its close frame is written, then the socket is closed, all in a short time.

use std::future::poll_fn;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::outgoing::Outgoing;
use crate::discord::connect::Stream;

/// How long the server has to take the close frame and to close its side.
const PARTING_TIMEOUT: Duration = Duration::from_millis(500);

/// Writes what waits in `outgoing` and a close frame, and sees the connection off. Whatever goes wrong here does not
/// matter: a connection that is cut keeps its session as well.
pub(super) async fn part(mut stream: Stream, mut outgoing: Outgoing, code: u16) {
    outgoing.close(code);
    let goodbye = async {
        poll_fn(|cx| outgoing.poll_write(&mut stream, cx)).await?;
        stream.shutdown().await?;
        // Read to the end: closing a socket with unread bytes resets it, and the close frame might be lost with that.
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let _ = tokio::time::timeout(PARTING_TIMEOUT, goodbye).await;
}
