//! Typed values out of texts, with every problem kept.
//!
//! A reader asks for all its fields, does its cross checks and calls [`Resolver::finish`] once. What a
//! getter returns after a problem stands in for the value so that reading can go on; `finish` keeps it from
//! being used.

use std::collections::HashMap;
use std::fmt::Display;

use super::field::Field;
use super::problem::{ConfigErrors, printable, printable_reason};
use super::sources::{Given, Source, Sources, items};
use super::{Kind, values};

/// Reads fields and collects what is wrong with them.
pub struct Resolver {
    sources: Sources,
    computed: HashMap<&'static str, String>,
    problems: Vec<String>,
}

impl Resolver {
    /// A reader of these sources; their problems are its first ones.
    #[must_use]
    pub fn new(mut sources: Sources) -> Self {
        let problems = std::mem::take(&mut sources.problems);
        Self { sources, computed: HashMap::new(), problems }
    }

    /// The field's value, or its default. `None` when there is neither, or when there was a problem.
    ///
    /// What `parse` returns as its error should say what is expected; the text and the names are added.
    pub fn get<T, E: Display>(
        &mut self,
        field: &Field,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let given = self.resolve(field)?;
        let text = given.texts.first()?;
        self.parsed(field, text, &given.source, parse)
    }

    /// Like [`Self::get`], with a value for the case that nothing was given or that there was a problem.
    pub fn get_or<T, E: Display>(
        &mut self,
        field: &Field,
        parse: impl FnOnce(&str) -> Result<T, E>,
        otherwise: T,
    ) -> T {
        self.get(field, parse).unwrap_or(otherwise)
    }

    /// Like [`Self::get`], but having neither value nor default is a problem.
    pub fn require<T, E: Display>(
        &mut self,
        field: &Field,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if self.resolve(field).is_none() {
            self.problem(field, "has to be given");
        }
        self.get(field, parse)
    }

    /// The field's value as it was given.
    pub fn text(&mut self, field: &Field) -> Option<String> {
        self.get(field, |text| Ok::<_, String>(text.to_owned()))
    }

    /// The values of a list; those with a problem are left out.
    pub fn list<T, E: Display>(&mut self, field: &Field, parse: impl Fn(&str) -> Result<T, E>) -> Vec<T> {
        let Some(given) = self.resolve(field) else {
            return Vec::new();
        };
        let parsed = given.texts.iter().filter_map(|text| self.parsed(field, text, &given.source, &parse));
        parsed.collect()
    }

    /// Whether a switch is on.
    pub fn flag(&mut self, field: &Field) -> bool {
        self.get(field, values::boolean).unwrap_or(false)
    }

    /// Notes what a cross check found.
    pub fn problem(&mut self, field: &Field, message: impl Display) {
        self.note(format!("{field}: {message}"));
    }

    /// Whether the field was given anywhere: not by its default.
    #[must_use]
    pub fn given(&self, field: &Field) -> bool {
        self.sources.given.contains_key(field.flag)
    }

    /// Where the field's value comes from.
    #[must_use]
    pub fn source(&self, field: &Field) -> Source {
        match (self.resolve(field), self.computed.get(field.flag)) {
            (Some(given), _) => given.source,
            (None, Some(_)) => Source::Default,
            (None, None) => Source::Unset,
        }
    }

    /// Notes a default that had to be found out, such as the host's name, for [`Self::show`].
    pub fn computed(&mut self, field: &Field, text: impl Display) {
        self.computed.insert(field.flag, text.to_string());
    }

    /// Whether all that was read is usable. Takes the problems noted so far.
    ///
    /// # Errors
    /// Every problem of the sources, of the values and of the cross checks.
    pub fn finish(&mut self) -> Result<(), ConfigErrors> {
        let problems = std::mem::take(&mut self.problems);
        if problems.is_empty() { Ok(()) } else { Err(ConfigErrors(problems)) }
    }

    /// Every field with its text and where that came from, in the order of the tables. Secrets and the
    /// user and password of URLs aren't shown.
    #[must_use]
    pub fn show(&self) -> Vec<(Field, String, Source)> {
        self.sources.fields.iter().map(|field| (*field, self.shown_text(field), self.source(field))).collect()
    }

    fn shown_text(&self, field: &Field) -> String {
        let Some(given) = self.resolve(field) else {
            let computed = self.computed.get(field.flag).map(|text| printable(field, text));
            return computed.unwrap_or_default();
        };
        let texts: Vec<String> = given.texts.iter().map(|text| printable(field, text)).collect();
        texts.join(",")
    }

    fn resolve(&self, field: &Field) -> Option<Given> {
        debug_assert!(
            self.sources.fields.iter().any(|known| known.flag == field.flag),
            "--{} is in none of the tables that were gathered",
            field.flag
        );
        self.sources.given.get(field.flag).cloned().or_else(|| default(field))
    }

    fn parsed<T, E: Display>(
        &mut self,
        field: &Field,
        text: &str,
        source: &Source,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(reason) => {
                let reason = printable_reason(field, text, &reason.to_string());
                self.note(format!("{field}: \"{}\" from {source}: {reason}", printable(field, text)));
                None
            }
        }
    }

    /// Two planes that share a field shouldn't report it twice.
    fn note(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

fn default(field: &Field) -> Option<Given> {
    let text = field.default?;
    let texts = match field.kind {
        Kind::List => items(text),
        Kind::Value | Kind::Switch => vec![text.to_owned()],
    };
    Some(Given { texts, source: Source::Default })
}
