//! A line of the table: what was measured, what is aimed at, and whether that is met.

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Target {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Target::AtLeast(least) => figure >= least,
            Target::AtMost(most) => figure <= most,
        }
    }
}

/// Prints a figure, of this unit, beside its target. `how` says what it is made of.
pub fn row(what: &str, figure: f64, unit: &str, target: Target, how: &str) {
    let (word, number) = match target {
        Target::AtLeast(least) => ("at least", least),
        Target::AtMost(most) => ("at most", most),
    };
    let verdict = if target.is_met(figure) { "ok" } else { "short" };
    println!("{what:<52} {figure:>9.2} {unit:<9} {word} {number:<6} {verdict:<6} {how}");
}

/// The one in the middle.
///
/// # Panics
/// Of nothing.
pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
