//! `optic`: the command line and nothing else; everything it does is in the library.

mod cli;
mod memory;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Exit, ExitWith};

fn main() -> ExitCode {
    memory::return_what_is_large();
    // One thread runs everything that is hot: an event crosses none.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(Cli::parse().execute());
            // All that has to end has ended. Shut down, it would cancel what lapin's threads wait for, and have them panic into
            // our last words; and a read of standard input, which has a thread of its own, lasts as long as nobody types.
            std::mem::forget(runtime);
            done
        }
        Err(why) => Err(anyhow::Error::new(why).context("cannot start the runtime")),
    };
    match done {
        Ok(()) => Exit::Fine.into(),
        Err(error) => {
            eprintln!("optic: {error:#}");
            ExitWith::of(&error).into()
        }
    }
}
