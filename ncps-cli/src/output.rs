//! Answers, printed: as aligned tables for people, or as JSON for programs. What a JSON document has is told by the
//! serde type of its answer; fields may be added, never renamed.
//!
//! A closed output (`| head`) is an end, not a failure.

use std::io::{self, ErrorKind, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::{Done, Failure};

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines and tables.
    #[default]
    Table,
    /// One document; one a line where answers go on coming.
    Json,
}

/// An answer.
pub trait Shown: Serialize {
    /// Lines for people, each ended by a line feed.
    fn text(&self) -> String;
}

impl Output {
    /// Prints the only answer of a command.
    pub fn print(self, answer: &impl Shown) -> Done {
        match self {
            Output::Table => write(&answer.text()),
            Output::Json => write(&(json(serde_json::to_string_pretty(answer))? + "\n")),
        }
    }

    /// Prints one of many answers.
    pub fn print_line(self, answer: &impl Shown) -> Done {
        match self {
            Output::Table => write(&answer.text()),
            Output::Json => write(&(json(serde_json::to_string(answer))? + "\n")),
        }
    }
}

fn json(text: serde_json::Result<String>) -> Result<String, Failure> {
    text.map_err(|error| Failure::Failed(format!("write JSON: {error}")))
}

/// Prints what is no answer, as it is.
pub(crate) fn write(text: &str) -> Done {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(|error| Failure::Failed(format!("print the answer: {error}"))),
    }
}

/// Aligned columns: numbers to the right, everything else to the left.
pub struct Table {
    rows: Vec<Vec<String>>,
    to_the_right: &'static [usize],
}

impl Table {
    /// With these heads; the columns of numbers are named by their place.
    pub fn new<const N: usize>(heads: [&str; N], to_the_right: &'static [usize]) -> Table {
        Table { rows: vec![heads.map(str::to_owned).to_vec()], to_the_right }
    }

    /// Pairs of a name and what it is, without heads.
    pub fn pairs() -> Table {
        Table { rows: Vec::new(), to_the_right: &[] }
    }

    /// One row more.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// All rows as lines.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<_> = (0..columns).map(|at| self.width(at)).collect();
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn width(&self, at: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cells = row.iter().zip(widths).enumerate().map(|(at, (cell, &width))| {
            if self.to_the_right.contains(&at) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["NAME", "SIZE", "NOTE"], &[1]);
        table.row(["a".to_owned(), "1000 B".to_owned(), String::new()]);
        table.row(["longer".to_owned(), "1 B".to_owned(), "x".to_owned()]);
        assert_eq!(table.text(), "NAME      SIZE  NOTE\na       1000 B\nlonger     1 B  x\n");
    }

    #[test]
    fn an_empty_table_is_its_heads() {
        assert_eq!(Table::new(["NAME"], &[]).text(), "NAME\n");
        assert_eq!(Table::pairs().text(), "");
    }
}
