//! The names of fields across tables: which there are, and whether two fields claim the same one.

use super::field::Field;

/// Every field of the tables once, in order. A field that several tables share is one field.
pub(super) fn unique(groups: &[&[Field]]) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for field in groups.iter().copied().flatten() {
        if !fields.iter().any(|seen| seen.flag == field.flag) {
            fields.push(*field);
        }
    }
    fields
}

pub(super) fn flags(field: &Field) -> impl Iterator<Item = &'static str> + use<> {
    named(field.flag).chain(field.aliases.iter().filter_map(|alias| alias.flag))
}

pub(super) fn variables(field: &Field) -> impl Iterator<Item = &'static str> + use<> {
    named(field.env).chain(field.aliases.iter().filter_map(|alias| alias.env))
}

pub(super) fn keys(field: &Field) -> impl Iterator<Item = &'static str> + use<> {
    named(field.key).chain(field.aliases.iter().filter_map(|alias| alias.key))
}

/// Every file key of these tables, other names included.
#[must_use]
pub fn all_keys(groups: &[&[Field]]) -> Vec<&'static str> {
    unique(groups).iter().flat_map(keys).collect()
}

fn named(name: &'static str) -> impl Iterator<Item = &'static str> {
    Some(name).filter(|name| !name.is_empty()).into_iter()
}

/// What is wrong with the tables themselves, for a test to hold: a name that two fields claim, or two
/// different definitions of one flag. Empty when all is well.
#[must_use]
pub fn conflicts(groups: &[&[Field]]) -> Vec<String> {
    let fields = unique(groups);
    let mut found: Vec<String> = groups
        .iter()
        .copied()
        .flatten()
        .filter(|field| !fields.contains(field))
        .map(|field| format!("--{} is defined twice, differently", field.flag))
        .collect();
    found.extend(claimed_twice(fields.iter().flat_map(|f| flags(f).map(|name| format!("--{name}")))));
    found.extend(claimed_twice(fields.iter().flat_map(|f| variables(f).map(str::to_owned))));
    found.extend(claimed_twice(fields.iter().flat_map(|f| keys(f).map(str::to_owned))));
    found
}

fn claimed_twice(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
        .chunk_by(|a, b| a == b)
        .filter(|same| same.len() > 1)
        .map(|same| format!("{} names {} fields", same[0], same.len()))
        .collect()
}
