//! The configuration reference, as Markdown.

use std::fmt::Write;

use super::field::{Alias, Field, Kind};
use super::names;

/// A Markdown table of these fields, without the hidden ones; ends with a newline.
#[must_use]
pub fn reference(groups: &[&[Field]]) -> String {
    let mut table =
        String::from("| Flag | Variable | File key | Default | Meaning |\n| --- | --- | --- | --- | --- |\n");
    for field in names::unique(groups).iter().filter(|field| !field.hidden) {
        let default = code(field.default.unwrap_or_default());
        writeln!(table, "| {} | {default} | {} |", names_cells(field), meaning(field))
            .expect("a String takes any text");
    }
    table
}

/// The first three cells of a row: flag, variable and key.
#[must_use]
pub fn names_cells(field: &Field) -> String {
    format!("{} | {} | {}", flag_cell(field), code(field.env), code(field.key))
}

fn flag_cell(field: &Field) -> String {
    match field.kind {
        Kind::Value => format!("`--{}`", field.flag),
        Kind::Switch => format!("`--{}[=false]`", field.flag),
        Kind::List => format!("`--{}` (repeatable)", field.flag),
    }
}

fn meaning(field: &Field) -> String {
    let mut text = field.help.replace('|', "\\|");
    let others: Vec<String> = field.aliases.iter().flat_map(alias_names).collect();
    if !others.is_empty() {
        text += &format!(" Also: {}.", others.join(", "));
    }
    text
}

fn alias_names(alias: &Alias) -> impl Iterator<Item = String> + use<> {
    let flag = alias.flag.map(|flag| format!("`--{flag}`"));
    let rest = [alias.env, alias.key].into_iter().flatten().map(code);
    flag.into_iter().chain(rest)
}

fn code(text: &str) -> String {
    if text.is_empty() { "–".to_owned() } else { format!("`{}`", text.replace('|', "\\|")) }
}
