//! Which edges are believed to hold each file, in few bytes: most files are held by few edges, and an edge is a number for
//! as long as it holds anything. With two holders a file takes about 120 bytes here.

use std::collections::HashMap;

use ncps_nix::NarFileName;

/// An instance, where it has a number.
#[derive(Debug)]
struct Numbered {
    instance: String,
    files: usize,
}

/// The holders of all files.
#[derive(Debug, Default)]
pub(super) struct Holders {
    files: HashMap<NarFileName, Vec<u32>>,
    numbers: HashMap<String, u32>,
    /// By number; `None` where it is free.
    instances: Vec<Option<Numbered>>,
    free: Vec<u32>,
}

impl Holders {
    /// An instance holds a file.
    pub(super) fn put(&mut self, name: NarFileName, instance: &str) {
        let number = self.number(instance);
        let holders = self.files.entry(name).or_default();
        if holders.contains(&number) {
            return;
        }
        // One more and no room for others: most files never get any.
        holders.reserve_exact(1);
        holders.push(number);
        self.instances[number as usize].as_mut().into_iter().for_each(|known| known.files += 1);
    }

    /// It does not any more.
    pub(super) fn remove(&mut self, name: NarFileName, instance: &str) {
        let Some(number) = self.numbers.get(instance).copied() else { return };
        let Some(holders) = self.files.get_mut(&name) else { return };
        let Some(at) = holders.iter().position(|holder| *holder == number) else { return };
        holders.swap_remove(at);
        if holders.is_empty() {
            self.files.remove(&name);
        }
        self.holds_one_less(number);
    }

    /// The instances that hold a file, in no order.
    pub(super) fn of(&self, name: NarFileName) -> impl Iterator<Item = &str> {
        let numbers = self.files.get(&name).into_iter().flatten();
        numbers.filter_map(|number| Some(&*self.instances.get(*number as usize)?.as_ref()?.instance))
    }

    /// Whether anybody holds a file.
    pub(super) fn any(&self, name: NarFileName) -> bool {
        self.files.contains_key(&name)
    }

    /// Whether nobody holds anything.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.numbers.is_empty()
    }

    fn number(&mut self, instance: &str) -> u32 {
        if let Some(number) = self.numbers.get(instance) {
            return *number;
        }
        let known = Some(Numbered { instance: instance.to_owned(), files: 0 });
        let number = match self.free.pop() {
            Some(number) => {
                self.instances[number as usize] = known;
                number
            }
            None => {
                self.instances.push(known);
                (self.instances.len() - 1) as u32
            }
        };
        self.numbers.insert(instance.to_owned(), number);
        number
    }

    fn holds_one_less(&mut self, number: u32) {
        let Some(place) = self.instances.get_mut(number as usize) else { return };
        let Some(known) = place else { return };
        known.files -= 1;
        if known.files == 0 {
            self.numbers.remove(&known.instance);
            *place = None;
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use ncps_nix::{Compression, FileHash, Sha256Hash};

    use super::*;

    fn file(seed: u8) -> NarFileName {
        NarFileName { hash: FileHash(Sha256Hash::of(&[seed])), compression: Compression::Zstd }
    }

    fn of(holders: &Holders, seed: u8) -> Vec<&str> {
        let mut of: Vec<_> = holders.of(file(seed)).collect();
        of.sort_unstable();
        of
    }

    #[test]
    fn files_have_the_holders_that_were_put() {
        let mut holders = Holders::default();
        for (seed, instance) in [(1, "a"), (1, "b"), (1, "a"), (2, "b")] {
            holders.put(file(seed), instance);
        }
        assert_eq!((of(&holders, 1), of(&holders, 2), of(&holders, 3)), (vec!["a", "b"], vec!["b"], vec![]));
        holders.remove(file(1), "b");
        holders.remove(file(1), "c");
        holders.remove(file(3), "a");
        assert_eq!((of(&holders, 1), of(&holders, 2)), (vec!["a"], vec!["b"]));
    }

    #[test]
    fn a_number_is_another_edges_only_when_the_first_holds_nothing() {
        let mut holders = Holders::default();
        holders.put(file(1), "a");
        holders.put(file(2), "a");
        holders.remove(file(1), "a");
        holders.put(file(1), "b");
        assert_eq!((of(&holders, 1), of(&holders, 2)), (vec!["b"], vec!["a"]));
        holders.remove(file(2), "a");
        holders.put(file(2), "c");
        assert_eq!((of(&holders, 1), of(&holders, 2)), (vec!["b"], vec!["c"]));
        assert_eq!(holders.instances.len(), 2, "a's number is c's");
        holders.remove(file(1), "b");
        holders.remove(file(2), "c");
        assert!(holders.is_empty());
    }
}
