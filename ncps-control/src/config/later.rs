//! Names of the original's that mean nothing of their own here, and what becomes of each: what changes nothing is
//! accepted and mentioned at the start, what would change the meaning is refused by name.
//!
//! Hidden in help; the configuration reference lists them. Absent: the original's defaults and types, since no
//! value counts.

use std::fmt::Write;

use ncps_runtime::config::{Field, Kind, Resolver, names_cells, values};

mod table;

#[cfg(test)]
mod names_tests;
#[cfg(test)]
mod tests;

use table::{GLOBAL_ROWS, ROWS};

/// Those that stand before and after the name of a command.
pub const LATER_GLOBAL: &[Field] = &fields::<{ GLOBAL_ROWS.len() }>(GLOBAL_ROWS);

/// Those of `serve`.
pub const LATER: &[Field] = &fields::<{ ROWS.len() }>(ROWS);

/// A name, and what becomes of what is given for it.
struct Later {
    field: Field,
    fate: Fate,
}

/// What becomes of a value.
enum Fate {
    /// Any is accepted and changes nothing.
    Moot,
    /// It has to be off, false, or empty: anything else would have to change what we do.
    Off,
    /// It has to be this, or empty.
    Only(&'static str),
}

const fn fields<const N: usize>(rows: &[Later]) -> [Field; N] {
    let mut fields = [rows[0].field; N];
    let mut row = 0;
    while row < N {
        fields[row] = rows[row].field.hidden();
        row += 1;
    }
    fields
}

fn rows() -> impl Iterator<Item = &'static Later> {
    GLOBAL_ROWS.iter().chain(ROWS)
}

/// Refuses what would change the meaning. Returns the flags that were given and change nothing.
pub(super) fn read(r: &mut Resolver) -> Vec<&'static str> {
    let given: Vec<&Later> = rows().filter(|row| r.given(&row.field)).collect();
    given.iter().for_each(|row| row.check(r));
    given.iter().filter(|row| matches!(row.fate, Fate::Moot)).map(|row| row.field.flag).collect()
}

impl Later {
    fn check(&self, r: &mut Resolver) {
        match self.field.kind {
            Kind::List => drop(r.list(&self.field, |text| self.accept(text))),
            Kind::Value | Kind::Switch => drop(r.get(&self.field, |text| self.accept(text))),
        }
    }

    fn accept(&self, text: &str) -> Result<(), String> {
        let is_on = match self.field.kind {
            Kind::Switch => values::boolean(text)?,
            Kind::Value | Kind::List => !text.is_empty(),
        };
        match self.fate {
            Fate::Off if is_on => Err(self.field.help.to_owned()),
            Fate::Only(one) if is_on && text != one => Err(self.field.help.to_owned()),
            Fate::Moot | Fate::Off | Fate::Only(_) => Ok(()),
        }
    }

    fn accepted(&self) -> String {
        match (&self.fate, self.field.kind) {
            (Fate::Moot, _) => "anything".to_owned(),
            (Fate::Off, Kind::Switch) => "`false`".to_owned(),
            (Fate::Off, _) => "empty".to_owned(),
            (Fate::Only(one), _) => format!("`{one}`"),
        }
    }
}

/// What is accepted of the original's later names, as a Markdown table; ends with a newline.
pub fn later_reference() -> String {
    let head = "| Flag | Variable | File key | Accepted | Why |\n| --- | --- | --- | --- | --- |\n";
    rows().fold(head.to_owned(), |mut table, row| {
        let cells = names_cells(&row.field);
        writeln!(table, "| {cells} | {} | {} |", row.accepted(), row.field.help)
            .expect("a String takes any text");
        table
    })
}
