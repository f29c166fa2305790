//! Prometheus' text format, read back.

use std::collections::{BTreeMap, BTreeSet};

/// What one scrape said.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    /// Kind by name, as the `# TYPE` lines have it.
    pub kinds: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    /// # Panics
    /// Where a line is none of the format.
    pub fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix("# TYPE ") {
                Some(kind) => {
                    let (name, kind) = kind.split_once(' ').expect("a name and a kind");
                    let former = scrape.kinds.insert(name.to_owned(), kind.to_owned());
                    assert_eq!(former, None, "{name} comes twice");
                }
                None if line.starts_with('#') => {}
                None => scrape.samples.push(sample(line)),
            }
        }
        scrape
    }

    /// The sum of the series that have these labels; `None` where there is none.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &Sample| labels.iter().all(|(k, v)| sample.labels.get(*k).is_some_and(|l| l == v));
        let mut found = self.samples.iter().filter(|sample| sample.name == name && has(sample)).peekable();
        found.peek()?;
        Some(found.map(|sample| sample.value).sum())
    }

    /// The same of a series that has to be there.
    ///
    /// # Panics
    /// Where it isn't.
    pub fn number(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels).unwrap_or_else(|| panic!("no {name} with {labels:?}"))
    }

    /// The names of the labels of each metric, those of histograms' buckets left out.
    pub fn labels(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for sample in &self.samples {
            let labels = sample.labels.keys().filter(|label| *label != "le").cloned();
            all.entry(self.metric_of(&sample.name)).or_default().extend(labels);
        }
        all
    }

    fn metric_of(&self, sample: &str) -> String {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.strip_suffix(suffix));
        let histogram = base.filter(|base| self.kinds.get(*base).is_some_and(|kind| kind == "histogram"));
        histogram.unwrap_or(sample).to_owned()
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect("a series and a value");
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').expect("closed")),
        None => (series, ""),
    };
    let value = value.parse().expect("a number");
    Sample { name: name.to_owned(), labels: pairs(labels), value }
}

/// Values of ours hold neither quotes nor backslashes, but commas and braces.
fn pairs(mut labels: &str) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    while let Some((key, rest)) = labels.split_once("=\"") {
        let (value, rest) = rest.split_once('"').expect("a closed value");
        pairs.insert(key.to_owned(), value.to_owned());
        labels = rest.strip_prefix(',').unwrap_or(rest);
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_their_labels() {
        let text = "# TYPE a counter\na{r=\"/{x}\",s=\"1\"} 2\na{r=\"/{x}\",s=\"2\"} 3\n\
                    # TYPE h histogram\nh_bucket{r=\"x\",le=\"+Inf\"} 1\nh_count{r=\"x\"} 1\n";
        let scrape = Scrape::parse(text);
        assert_eq!(scrape.get("a", &[("r", "/{x}")]), Some(5.0));
        assert_eq!(scrape.get("a", &[("s", "3")]), None);
        assert_eq!(scrape.labels()["h"], BTreeSet::from(["r".to_owned()]));
    }
}
