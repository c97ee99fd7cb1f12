//! Exit codes, for those who start Optic and have to decide what its end means.
//!
//! 69 and 78 are `EX_UNAVAILABLE` and `EX_CONFIG` of sysexits.h, which systemd knows by name. spec/configuration.md,
//! "Exit codes", and `--help` have this table.

use std::fmt;
use std::process::ExitCode;

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or stopped as asked.
    Fine,
    /// It failed while it ran, or what was asked for is not so.
    Failed,
    /// The command line is wrong.
    Usage,
    /// Nothing can be served.
    Unavailable,
    /// The configuration is wrong.
    Configuration,
}

impl Exit {
    /// Every code, by number.
    pub const ALL: [Self; 5] = [Self::Fine, Self::Failed, Self::Usage, Self::Unavailable, Self::Configuration];

    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unavailable => 69,
            Self::Configuration => 78,
        }
    }

    /// What it means, in a line.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Fine => "done, or stopped as asked (SIGTERM, SIGINT)",
            Self::Failed => "it failed while it ran, or what was asked for is not so",
            Self::Usage => "the command line is wrong",
            Self::Unavailable => "nothing can be served: no shard can run",
            Self::Configuration => "the configuration is wrong",
        }
    }

    /// The table for `--help`.
    pub fn table() -> String {
        let mut text = "Exit codes:".to_owned();
        for exit in Self::ALL {
            text += &format!("\n  {:>2}  {}", exit.code(), exit.meaning());
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that decides the exit code: the command ends with it, its cause is printed.
#[derive(Debug)]
pub struct ExitWith {
    exit: Exit,
    cause: String,
}

impl ExitWith {
    /// Ends with `exit`, and says why.
    pub fn new(exit: Exit, cause: impl fmt::Display) -> Self {
        Self { exit, cause: cause.to_string() }
    }

    /// What `error` ends the process with: [`Exit::Failed`] unless it is one of these, or has one as its cause.
    pub fn of(error: &anyhow::Error) -> Exit {
        error.chain().find_map(|cause| cause.downcast_ref::<Self>()).map_or(Exit::Failed, |with| with.exit)
    }
}

impl fmt::Display for ExitWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for ExitWith {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_code() {
        let spec = include_str!("../../spec/configuration.md");
        let section = spec.split("## Exit codes").nth(1).expect("a section on exit codes");
        let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
        let expected: Vec<String> =
            Exit::ALL.iter().map(|exit| format!("| {} | {} |", exit.code(), exit.meaning())).collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn an_error_carries_its_code_through_what_is_said_about_it() {
        let error = anyhow::Error::new(ExitWith::new(Exit::Configuration, "wrong")).context("at the start");
        assert_eq!(ExitWith::of(&error), Exit::Configuration);
        assert_eq!(ExitWith::of(&anyhow::anyhow!("something")), Exit::Failed);
    }
}
