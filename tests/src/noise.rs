//! Content made from a seed: cheap, the same every time, and readable at any offset without
//! making what lies before it. So a body of many gigabytes needs a table of 4 MiB and no more.
//!
//! Not for secrets: it only has to look random to a compressor.

use std::sync::Arc;

/// Bytes made one by one; what lies beyond is pieced together from pages of them.
const TABLE: usize = 4 << 20;
const PAGE: u64 = 64 << 10;

/// What the bytes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Look {
    /// No compressor gains on it.
    #[default]
    Random,
    /// Words: a compressor gains a lot.
    Words,
}

/// `len` bytes that follow from a seed. Clones share the table.
#[derive(Debug, Clone)]
pub(crate) struct Noise {
    table: Arc<[u8]>,
    seed: u64,
    len: u64,
}

impl Noise {
    pub(crate) fn new(seed: u64, len: u64, look: Look) -> Self {
        let table_len = usize::try_from(len).map_or(TABLE, |len| len.min(TABLE));
        let mut random = SplitMix(seed);
        let table = match look {
            Look::Random => random_table(&mut random, table_len),
            Look::Words => word_table(&mut random, table_len),
        };
        Self { table: table.into(), seed, len }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Appends up to `max` bytes from `offset` on: at least one, unless `offset` is the end.
    pub(crate) fn append(&self, offset: u64, max: usize, out: &mut Vec<u8>) {
        let in_page = offset % PAGE;
        let left = (PAGE - in_page).min(self.len.saturating_sub(offset)).min(max as u64);
        if left == 0 {
            return;
        }
        let start = self.page_start(offset / PAGE) + in_page as usize;
        out.extend_from_slice(&self.table[start..start + left as usize]);
    }

    /// Where in the table a page of the content lies: in order while the table lasts, then
    /// anywhere.
    fn page_start(&self, page: u64) -> usize {
        let in_order = page * PAGE;
        if in_order < self.table.len() as u64 {
            return in_order as usize;
        }
        let places = self.table.len() as u64 - PAGE + 1;
        (mix(self.seed ^ page) % places) as usize
    }
}

/// Numbers that follow from a seed: Sebastiano Vigna's SplitMix64 (public domain).
#[derive(Debug)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next one.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and has no other use of an iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn random_table(random: &mut SplitMix, len: usize) -> Vec<u8> {
    let mut table = Vec::with_capacity(len + 8);
    while table.len() < len {
        table.extend_from_slice(&random.next().to_le_bytes());
    }
    table.truncate(len);
    table
}

fn word_table(random: &mut SplitMix, len: usize) -> Vec<u8> {
    const WORDS: [&str; 8] =
        ["store ", "path ", "output ", "closure\n", "derivation ", "builder ", "cache ", "edge\n"];
    let mut table = Vec::with_capacity(len + 16);
    while table.len() < len {
        let word = WORDS[(random.next() % WORDS.len() as u64) as usize];
        table.extend_from_slice(word.as_bytes());
    }
    table.truncate(len);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(noise: &Noise, from: u64, len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < len {
            noise.append(from + out.len() as u64, len - out.len(), &mut out);
        }
        out
    }

    #[test]
    fn any_offset_reads_the_same_bytes() {
        let noise = Noise::new(7, 10 << 20, Look::Random);
        let whole = read(&noise, 0, 10 << 20);
        for from in [0, 1, 65_535, 65_536, (4 << 20) - 3, 5_000_001, 9_999_999] {
            assert_eq!(read(&noise, from, 400), whole[from as usize..from as usize + 400], "{from}");
        }
    }

    #[test]
    fn the_end_is_exact() {
        let noise = Noise::new(7, 65_537, Look::Words);
        let mut out = Vec::new();
        noise.append(65_536, 10, &mut out);
        assert_eq!(out.len(), 1);
        noise.append(65_537, 10, &mut out);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn seeds_differ() {
        let [one, two] = [1, 2].map(|seed| read(&Noise::new(seed, 100, Look::Random), 0, 100));
        assert_ne!(one, two);
    }
}
