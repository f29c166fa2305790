//! How large the fleet is, and how much is asked of it.

/// The numbers of a run, each of which may be given as `name=number`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) edges: usize,
    /// Each with a narinfo and a NAR file, which two edges hold.
    pub(crate) paths: usize,
    /// Of the measurement.
    pub(crate) seconds: usize,
    /// Lookups per second.
    pub(crate) lookups: usize,
    /// Hits per second.
    pub(crate) hits: usize,
}

impl Size {
    /// # Panics
    /// Where an argument is none of these.
    pub(crate) fn read(args: impl Iterator<Item = String>) -> Size {
        let mut size = Size { edges: 200, paths: 1_000_000, seconds: 30, lookups: 5_000, hits: 100_000 };
        for arg in args {
            let (name, number) = arg.split_once('=').expect("expected NAME=NUMBER");
            let number = number.parse().expect("a whole number");
            match name {
                "edges" => size.edges = number,
                "paths" => size.paths = number,
                "seconds" => size.seconds = number,
                "lookups" => size.lookups = number,
                "hits" => size.hits = number,
                other => panic!("{other} is none of edges, paths, seconds, lookups and hits"),
            }
        }
        size
    }
}
