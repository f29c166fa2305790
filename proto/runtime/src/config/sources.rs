//! What was given for each field, and where.
//!
//! Knows the precedence of flags, environment and file, and that a field goes by several names. Texts are
//! kept as texts; the defaults and the types come in [`super::Resolver`].

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use serde_json::Value;

use super::command_line::most_alike;
use super::field::{Field, Kind};
use super::{CommandLine, Env, file, names};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// This flag, with its dashes, by the name that was typed.
    Flag(String),
    /// This environment variable.
    Variable(String),
    /// This key of this file.
    File {
        /// The file.
        path: PathBuf,
        /// The dotted key.
        key: String,
    },
    /// Nothing was given, the default counts.
    Default,
    /// Nothing was given and there is no default.
    Unset,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::File { path, key } => write!(f, "file {} key {key}", path.display()),
            Self::Default => f.write_str("default"),
            Self::Unset => f.write_str("not set"),
        }
    }
}

/// The texts of one field: exactly one unless the field is a list.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) texts: Vec<String>,
    pub(super) source: Source,
}

/// Everything that was given, and what is wrong with the giving.
pub struct Sources {
    pub(super) fields: Vec<Field>,
    pub(super) given: HashMap<&'static str, Given>,
    pub(super) problems: Vec<String>,
}

impl Sources {
    /// Gathers what was given for the fields of `groups`.
    ///
    /// `known` are keys that a file may have beyond those of `groups`: of the fields of other programs, so that
    /// all can share a file. `file` was named or found ([`super::find_file`]) and has to be readable. Problems
    /// (unknown flags, an unreadable file, unknown keys, one field by two names) are kept for
    /// [`super::Resolver::finish`].
    #[must_use]
    pub fn gather(
        groups: &[&[Field]],
        known: &[&str],
        line: &CommandLine,
        env: Env<'_>,
        file: Option<&Path>,
    ) -> Self {
        let fields = names::unique(groups);
        let mut gathering = Gathering { given: HashMap::new(), problems: line.problems.clone() };
        let leaves = file.map(|path| (path, gathering.file(path, &fields, known)));
        for field in &fields {
            gathering.take_flags(field, &line.matches);
            gathering.take_environment(field, env);
            if let Some((path, leaves)) = &leaves {
                gathering.take_file(field, path, leaves);
            }
        }
        Self { fields, given: gathering.given, problems: gathering.problems }
    }
}

struct Gathering {
    given: HashMap<&'static str, Given>,
    problems: Vec<String>,
}

impl Gathering {
    fn file(&mut self, path: &Path, fields: &[Field], known: &[&str]) -> BTreeMap<String, Value> {
        let leaves = match file::read(path) {
            Ok(leaves) => leaves,
            Err(problem) => {
                self.problems.push(problem.to_string());
                return BTreeMap::new();
            }
        };
        let is_known =
            |key: &str| known.contains(&key) || fields.iter().any(|f| names::keys(f).any(|k| k == key));
        for key in leaves.keys().filter(|key| !is_known(key)) {
            let meant = most_alike(key, fields).map(|field| format!(": did you mean {field}?"));
            let meant = meant.unwrap_or_default();
            self.problems.push(format!("{}: unknown key {key}{meant}", path.display()));
        }
        leaves
    }

    fn take_flags(&mut self, field: &Field, matches: &ArgMatches) {
        let found = names::flags(field).filter_map(|flag| {
            let values = matches.try_get_many::<String>(flag).ok().flatten()?;
            Some((Source::Flag(format!("--{flag}")), values.cloned().collect::<Vec<_>>()))
        });
        let found: Vec<_> = found.map(|(source, texts)| (source, split(field, texts))).collect();
        self.take(field, found);
    }

    fn take_environment(&mut self, field: &Field, env: Env<'_>) {
        let found = names::variables(field).filter_map(|name| {
            let text = env(name).filter(|text| !text.is_empty())?;
            Some((Source::Variable(name.to_owned()), split(field, vec![text])))
        });
        let found: Vec<_> = found.collect();
        self.take(field, found);
    }

    fn take_file(&mut self, field: &Field, path: &Path, leaves: &BTreeMap<String, Value>) {
        let mut found = Vec::new();
        for (key, value) in names::keys(field).filter_map(|key| leaves.get_key_value(key)) {
            let source = Source::File { path: path.to_owned(), key: key.clone() };
            match file_texts(field, value) {
                // As with variables. What fills in a template leaves such.
                Ok(texts) if texts == [""] => {}
                Ok(texts) => found.push((source, texts)),
                Err(expected) => self.problems.push(format!("{field}: {source}: {expected}")),
            }
        }
        self.take(field, found);
    }

    /// Keeps what one level gave, unless a higher level gave something already. Two names at one level
    /// contradict each other even where a higher level makes both moot.
    fn take(&mut self, field: &Field, found: Vec<(Source, Vec<String>)>) {
        if let [(first, _), (second, _), ..] = found.as_slice() {
            self.problems.push(format!("{field}: given twice, by {first} and by {second}: keep one of them"));
        }
        if let Some((source, texts)) = found.into_iter().next() {
            self.given.entry(field.flag).or_insert(Given { texts, source });
        }
    }
}

fn split(field: &Field, texts: Vec<String>) -> Vec<String> {
    match field.kind {
        Kind::List => texts.iter().flat_map(|text| items(text)).collect(),
        Kind::Value | Kind::Switch => texts.into_iter().next_back().into_iter().collect(),
    }
}

/// The items of a comma-separated text; empty ones don't count. A comma in a URL's password separates nothing.
pub(super) fn items(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for item in text.split(',') {
        match items.last_mut().filter(|last| goes_on(last, item)) {
            Some(last) => *last = format!("{last},{item}"),
            None => items.push(item.to_owned()),
        }
    }
    items.iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

/// Whether what ends before a comma has a login that only ends after it.
fn goes_on(before: &str, after: &str) -> bool {
    let authority =
        before.split_once("://").map(|(_, rest)| rest).filter(|rest| !rest.contains(['@', '/', '[']));
    let after_colon = authority.and_then(|rest| rest.split_once(':')).map(|(_, rest)| rest);
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    after_colon.is_some_and(|text| !is_port(text)) && !after.contains("://")
}

fn file_texts(field: &Field, value: &Value) -> Result<Vec<String>, &'static str> {
    match (value, field.kind) {
        (Value::Array(values), Kind::List) => {
            let texts: Option<Vec<String>> = values.iter().map(scalar).collect();
            texts.ok_or("every item of the list has to be a text, a number or a boolean")
        }
        (Value::Array(_), _) => Err("expected one value, found a list"),
        (scalar_value, _) => {
            let text = scalar(scalar_value).ok_or("expected a text, a number or a boolean")?;
            Ok(split(field, vec![text]))
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::items;

    #[test]
    fn a_comma_in_a_password_separates_nothing() {
        assert_eq!(items("a, b,,c"), ["a", "b", "c"]);
        assert_eq!(items("http://a:1,http://b:2"), ["http://a:1", "http://b:2"]);
        assert_eq!(items("https://me:p,a,s@a,https://b"), ["https://me:p,a,s@a", "https://b"]);
        assert_eq!(items("https://[::1]:80,https://b,key:x"), ["https://[::1]:80", "https://b", "key:x"]);
    }
}
