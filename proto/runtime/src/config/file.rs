//! The configuration file: YAML, TOML or JSON, as a flat map of dotted keys.
//!
//! Knows where the file is and how its nesting becomes keys. Messages about a broken file give the line, not
//! its text, which may hold a secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::command::CONFIG;
use super::{CommandLine, Env};
use crate::paths;

/// The configuration file to read: `--config`, else `NCPS_CONFIG_FILE`, else
/// `$XDG_CONFIG_HOME/ncps/config.yaml` if it exists.
#[must_use]
pub fn find_file(line: &CommandLine, env: Env<'_>) -> Option<PathBuf> {
    let flag = line.matches.try_get_one::<String>(CONFIG).ok().flatten().cloned();
    let named = flag.or_else(|| env("NCPS_CONFIG_FILE")).filter(|name| !name.is_empty());
    match named {
        Some(path) => Some(PathBuf::from(path)),
        None => paths::config_file(env).filter(|path| path.exists()),
    }
}

/// Why a configuration file can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Syntax { path: PathBuf, reason: String },
}

/// Reads the file into its leaves by dotted key; what is null counts as not given.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Value>, FileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let syntax = |reason| FileError::Syntax { path: path.to_owned(), reason };
    let value = parse(path, &text).map_err(syntax)?;
    let mut leaves = BTreeMap::new();
    flatten("", value, &mut leaves).map_err(|key| syntax(format!("{key} is given twice")))?;
    Ok(leaves)
}

fn parse(path: &Path, text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml(text),
        Some("yaml" | "yml") => yaml(text),
        Some("json") => json(text),
        _ => any(text),
    }
}

/// The original reads a file as whatever it turns out to be, in this order.
fn any(text: &str) -> Result<Value, String> {
    toml(text).or_else(|not_toml| {
        yaml(text).or_else(|not_yaml| {
            json(text).map_err(|not_json| format!("neither of: {not_toml}; {not_yaml}; {not_json}"))
        })
    })
}

fn toml(text: &str) -> Result<Value, String> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        format!("not TOML: line {line}: {}", error.message())
    })
}

fn yaml(text: &str) -> Result<Value, String> {
    let value: Value =
        serde_saphyr::from_str(text).map_err(|error| format!("not YAML: {}", error.without_snippet()))?;
    mapping("YAML", value)
}

fn json(text: &str) -> Result<Value, String> {
    let value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    mapping("JSON", value)
}

/// YAML takes any text for one long scalar, which is no configuration.
fn mapping(format: &str, value: Value) -> Result<Value, String> {
    match value {
        Value::Object(_) | Value::Null => Ok(value),
        _ => Err(format!("not {format}: expected keys and values at the top")),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Fails with a key that occurs twice, once nested and once spelled with dots.
fn flatten(prefix: &str, value: Value, leaves: &mut BTreeMap<String, Value>) -> Result<(), String> {
    match value {
        Value::Null => Ok(()),
        Value::Object(map) => map.into_iter().try_for_each(|(key, value)| {
            let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            flatten(&key, value, leaves)
        }),
        leaf => match leaves.insert(prefix.to_owned(), leaf) {
            None => Ok(()),
            Some(_) => Err(prefix.to_owned()),
        },
    }
}
