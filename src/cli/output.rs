//! Standard output of the commands that print. A reader that has gone, as with `| head`, is no failure.

use std::io::{self, Write};

use anyhow::{Context, Result};

/// Prints; `false` when nobody reads any more.
pub fn print(text: &str) -> Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(why) => Err(why).context("cannot print"),
    }
}
