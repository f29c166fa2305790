//! What one configuration field is called and what it means.
//!
//! Pure data, made by `const` functions so that a table of fields reads like a table. Absent: types of the
//! values; those come from the function that reads the field.

use std::fmt;

/// What a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One value; where a flag is repeated, the last one counts.
    Value,
    /// Yes or no: `--x`, `--x=false`.
    Switch,
    /// Any number of values: the flag repeats, and every text splits at its commas. A list in a file
    /// doesn't split further.
    List,
}

/// Another name of a field: an older or a later one of the original's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// The flag, without dashes.
    pub flag: Option<&'static str>,
    /// The environment variable.
    pub env: Option<&'static str>,
    /// The file key, dotted.
    pub key: Option<&'static str>,
}

impl Alias {
    /// A complete second set of names.
    #[must_use]
    pub const fn new(flag: &'static str, env: &'static str, key: &'static str) -> Self {
        Self { flag: Some(flag), env: Some(env), key: Some(key) }
    }

    /// A second flag and variable, without a key.
    #[must_use]
    pub const fn flag_env(flag: &'static str, env: &'static str) -> Self {
        Self { flag: Some(flag), env: Some(env), key: None }
    }

    /// A second flag only.
    #[must_use]
    pub const fn flag(flag: &'static str) -> Self {
        Self { flag: Some(flag), env: None, key: None }
    }

    /// A second variable only.
    #[must_use]
    pub const fn env(env: &'static str) -> Self {
        Self { flag: None, env: Some(env), key: None }
    }

    /// A second file key only.
    #[must_use]
    pub const fn key(key: &'static str) -> Self {
        Self { flag: None, env: None, key: Some(key) }
    }
}

/// One configuration field. An empty variable or key means that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The flag without dashes, such as `cache-hostname`; also the field's identity.
    pub flag: &'static str,
    /// The environment variable, or empty.
    pub env: &'static str,
    /// The dotted file key, such as `cache.hostname`, or empty.
    pub key: &'static str,
    /// Other names of the same field.
    pub aliases: &'static [Alias],
    /// What counts when nothing is given, read as if it had been typed.
    pub default: Option<&'static str>,
    /// One or two sentences for help and reference.
    pub help: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What the value is called in help, such as `PATH`.
    pub value_name: &'static str,
    /// The value is never printed.
    pub secret: bool,
    /// Left out of help and reference: accepted for compatibility.
    pub hidden: bool,
}

impl Field {
    /// A field with one value and without a default.
    #[must_use]
    pub const fn value(flag: &'static str, env: &'static str, key: &'static str, help: &'static str) -> Self {
        Self {
            flag,
            env,
            key,
            aliases: &[],
            default: None,
            help,
            kind: Kind::Value,
            value_name: "VALUE",
            secret: false,
            hidden: false,
        }
    }

    /// A yes-or-no field, by default no.
    #[must_use]
    pub const fn switch(
        flag: &'static str,
        env: &'static str,
        key: &'static str,
        help: &'static str,
    ) -> Self {
        let mut field = Self::value(flag, env, key, help);
        field.kind = Kind::Switch;
        field.default = Some("false");
        field.value_name = "BOOL";
        field
    }

    /// A field with any number of values, by default none.
    #[must_use]
    pub const fn list(flag: &'static str, env: &'static str, key: &'static str, help: &'static str) -> Self {
        let mut field = Self::value(flag, env, key, help);
        field.kind = Kind::List;
        field
    }

    /// With this default.
    #[must_use]
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    /// With this name for the value in help.
    #[must_use]
    pub const fn value_name(mut self, name: &'static str) -> Self {
        self.value_name = name;
        self
    }

    /// With these other names.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [Alias]) -> Self {
        self.aliases = aliases;
        self
    }

    /// With a value that is never printed.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Left out of help and reference.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }
}

/// All three names, as problems print them: `--cache-hostname (CACHE_HOSTNAME, cache.hostname)`.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{}", self.flag)?;
        match (self.env, self.key) {
            ("", "") => Ok(()),
            ("", one) | (one, "") => write!(f, " ({one})"),
            (env, key) => write!(f, " ({env}, {key})"),
        }
    }
}
