//! Configuration files of other programs, as variables: sinGateway's (YAML or JSON) and spec-tacles/gateway's (TOML).
//!
//! What a file says becomes the variables that say the same; the environment goes before them. Pure: the text is an argument.
//! Spec: spec/configuration.md, "Files".

mod settings;
mod singateway;
mod spectacles;
mod syntax;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde_json::Value;

use super::report::Warning;
use settings::Settings;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSettings {
    /// The variables.
    pub variables: Vec<FileVariable>,
    /// What is doubtful.
    pub warnings: Vec<Warning>,
}

/// A variable, and the key in the file that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileVariable {
    /// The variable's name.
    pub name: &'static str,
    /// Its value.
    pub text: String,
    /// The key, with those that it lies under: `shards.count`.
    pub key: String,
}

/// Why a file cannot be used. No part of the file is quoted: the token is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Nobody's.
    #[error("its name ends neither in .yml, .yaml or .json, as sinGateway's, nor in .toml, as spec-tacles/gateway's")]
    UnknownKind,
    /// Not YAML, JSON or TOML.
    #[error("line {line}, column {column}: {problem}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong there, and what to do.
        problem: String,
    },
    /// Not a file of settings.
    #[error("it is no list of settings, \"key: value\"")]
    NotSettings,
    /// A setting that is something else than it can be.
    #[error("{key} is {found}; write {wanted}")]
    Setting {
        /// Which.
        key: String,
        /// What it is.
        found: &'static str,
        /// What it has to be.
        wanted: &'static str,
    },
}

/// Makes variables of settings.
type Translate = fn(&mut Settings<'_>) -> Result<(), FileError>;

/// These say together which shards run; whoever sets one of the one kind in the environment means none of the other.
const SHARDS: [&str; 3] = ["DISCORD_SHARD_COUNT", "DISCORD_SHARD_IDS", "CLUSTER_MODE"];
const CLUSTERS: [&str; 3] = ["CLUSTER_ID", "CLUSTER_COUNT", "CLUSTER_SHARDS"];

impl FileSettings {
    /// Reads a file of this name.
    ///
    /// # Errors
    /// It is none that is known, or something in it is wrong.
    pub fn read(path: &Path, text: &str) -> Result<Self, FileError> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let (value, translate): (_, Translate) = match extension.to_ascii_lowercase().as_str() {
            "yml" | "yaml" => (syntax::yaml(text)?, singateway::translate),
            "json" => (syntax::json(text)?, singateway::translate),
            "toml" => (syntax::toml(text)?, spectacles::translate),
            _ => return Err(FileError::UnknownKind),
        };
        let Value::Object(map) = value else { return Err(FileError::NotSettings) };
        let mut found = Self::default();
        let mut settings = Settings::new(map, &mut found);
        translate(&mut settings)?;
        settings.warn_of_the_rest();
        Ok(found)
    }

    /// Leaves out what the environment says itself: the same variable, also by its file, or another one in its place.
    pub fn give_way<'a>(&mut self, said: impl Fn(&str) -> Option<&'a str>) {
        let is_set = |name: &str| match said(name).map(str::trim) {
            None | Some("") => false,
            // The default, spelt out, leaves it to the others which shards run.
            Some(mode) if name == "CLUSTER_MODE" => !mode.eq_ignore_ascii_case("static"),
            Some(_) => true,
        };
        let says = |names: &[&str]| names.iter().any(|name| is_set(name));
        let (shards, clusters) = (says(&SHARDS), says(&CLUSTERS));
        self.variables.retain(|variable| {
            let name = variable.name;
            let instead = match name {
                "DISCORD_INTENTS" => is_set("DISCORD_RAW_INTENTS"),
                "DISCORD_RAW_INTENTS" => is_set("DISCORD_INTENTS"),
                _ if SHARDS.contains(&name) => clusters,
                _ if CLUSTERS.contains(&name) => shards,
                _ => false,
            };
            !instead && !is_set(name) && !is_set(&format!("{name}_FILE"))
        });
    }
}

/// Reads the file of `FORWARDING`: the rules as JSON.
///
/// # Errors
/// Its name or its syntax is wrong.
pub fn rules(path: &Path, text: &str) -> Result<String, FileError> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "yml" | "yaml" => Ok(syntax::yaml(text)?.to_string()),
        _ => Ok(syntax::json(text)?.to_string()),
    }
}
