//! The environment that commands read: the process's own, and what `--env-file` and `--config` add. Nowhere else is it looked at.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use optic::config::file::FileSettings;
use optic::config::{Config, ConfigErrors, Warning, env_file};

use super::exit::{Exit, ExitWith};

/// Variables, as a configuration takes them.
#[derive(Clone)]
pub struct Environment {
    vars: Vec<(String, String)>,
    file: Option<File>,
    /// There is a file that was perhaps meant to be read.
    has_unread_file: bool,
}

/// What other programs read without being told to.
const USUAL_FILE: &str = ".env";

/// What `--config` named.
#[derive(Clone)]
struct File {
    path: PathBuf,
    settings: FileSettings,
}

impl Environment {
    /// The process's environment, before it what the files set that are named, the configuration's first. `cluster` goes before all.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or is none.
    pub fn read(env_file: Option<&Path>, config: Option<&Path>, cluster: Option<u32>) -> Result<Self> {
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
        vars.extend(cluster.map(|cluster| ("CLUSTER_ID".to_owned(), cluster.to_string())));
        let file = config.map(|path| File::read(path, &vars)).transpose()?;
        if let Some(file) = &file {
            let settings = file.settings.variables.iter();
            vars.extend(settings.map(|variable| (variable.name.to_owned(), variable.text.clone())));
        }
        Ok(Self { vars, file, has_unread_file: env_file.is_none() && Path::new(USUAL_FILE).is_file() })
    }

    /// These variables.
    #[cfg(test)]
    pub fn of(vars: &[(&str, &str)]) -> Self {
        Self {
            vars: vars.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
            file: None,
            has_unread_file: false,
        }
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
        match (Config::from_vars(self.vars(), read_file), &self.file) {
            (Ok((config, mut warnings)), Some(file)) => {
                warnings.extend(file.settings.warnings.iter().cloned());
                Ok((config, warnings))
            }
            (Ok(good), None) => Ok(good),
            (Err(errors), file) => {
                let mut errors = match file {
                    Some(file) => file.named(errors),
                    None => errors,
                };
                if self.has_unread_file {
                    let text = format!("is in this folder, and not read; `optic --env-file {USUAL_FILE}` reads it");
                    errors.warnings.push(Warning { variable: USUAL_FILE.to_owned(), text });
                }
                Err(wrong(errors))
            }
        }
    }
}

impl File {
    /// The file's settings, less what the variables say.
    fn read(path: &Path, vars: &[(String, String)]) -> Result<Self> {
        let wrong = |why: &dyn std::fmt::Display| {
            ExitWith::new(Exit::Configuration, format_args!("--config {}: {why}", path.display()))
        };
        let text = read_file(path).map_err(|why| wrong(&why))?;
        let mut settings = FileSettings::read(path, &text).map_err(|why| wrong(&why))?;
        // Of two with one name the later holds.
        settings.give_way(|name| vars.iter().rev().find(|(set, _)| set == name).map(|(_, text)| text.as_str()));
        Ok(Self { path: path.to_owned(), settings })
    }

    /// The mistakes, those in this file with the key that they stand under there, and what is doubtful about the file.
    fn named(&self, mut errors: ConfigErrors) -> ConfigErrors {
        for mistake in &mut errors.mistakes {
            if let Some(variable) = self.settings.variables.iter().find(|variable| variable.name == mistake.variable) {
                mistake.variable = format!("{} in {} ({})", variable.key, self.path.display(), variable.name);
            }
        }
        errors.warnings.extend(self.settings.warnings.iter().cloned());
        errors
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
