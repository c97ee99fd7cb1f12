//! The environment that commands read: the process's own, and what `--env-file` adds. Nowhere else is it looked at.

use std::io;
use std::path::Path;

use anyhow::Result;
use optic::config::{Config, ConfigErrors, Warning, env_file};

use super::exit::{Exit, ExitWith};

/// Variables, as a configuration takes them.
#[derive(Clone)]
pub struct Environment {
    vars: Vec<(String, String)>,
}

impl Environment {
    /// The process's environment, before it what the file sets, if one is named.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is none.
    pub fn read(env_file: Option<&Path>) -> Result<Self> {
        let mut vars = match env_file {
            Some(path) => from_file(path)?,
            None => Vec::new(),
        };
        if let Some(name) = host_name() {
            vars.insert(0, ("HOSTNAME".to_owned(), name));
        }
        // What is not UTF-8 gets a mark that no variable of ours allows: it is reported there by its name.
        let own = std::env::vars_os().map(|(name, text)| (lossy(name), lossy(text)));
        vars.extend(own);
        Ok(Self { vars })
    }

    /// These variables.
    #[cfg(test)]
    pub fn of(vars: &[(&str, &str)]) -> Self {
        Self { vars: vars.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect() }
    }

    /// Every pair; of two with one name the later holds.
    pub fn vars(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.vars.iter().cloned()
    }

    /// Whether a terminal may be coloured: not with `NO_COLOR`.
    pub fn wants_colours(&self) -> bool {
        self.vars.iter().all(|(name, text)| name != "NO_COLOR" || text.is_empty())
    }

    /// The whole configuration.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn config(&self) -> Result<(Config, Vec<Warning>)> {
        Config::from_vars(self.vars(), read_file).map_err(wrong)
    }
}

/// A configuration's mistakes as the end of the process.
pub fn wrong(errors: ConfigErrors) -> anyhow::Error {
    ExitWith::new(Exit::Configuration, errors).into()
}

/// Reads the file of a secret.
pub fn read_file(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

fn from_file(path: &Path) -> Result<Vec<(String, String)>> {
    let wrong = |why: &dyn std::fmt::Display| {
        ExitWith::new(Exit::Configuration, format_args!("--env-file {}: {why}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|why| wrong(&why))?;
    Ok(env_file::parse(&text).map_err(|why| wrong(&why))?)
}

/// The machine's name. Shells have it in a variable that they do not hand on.
fn host_name() -> Option<String> {
    rustix::system::uname().nodename().to_str().ok().map(str::to_owned)
}

fn lossy(text: std::ffi::OsString) -> String {
    text.to_string_lossy().into_owned()
}
