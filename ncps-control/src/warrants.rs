//! Warrants: control's word that one edge may do one errand for a client, once. An edge that can't keep an upload shows one
//! to the edge that can, in place of the client's token. Pure: the time comes in.
//!
//! They are in memory: a control that was started anew knows none, and the client sends its upload again. Absent: what a
//! client may do, and which edges are asked (see [`crate::control`]).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use ncps_nix::{Sha256Hash, nix32};
use ncps_proto::admin::Caller;
use ncps_proto::{Bearer, Code, Errand, Error, Result, Secret, tokens};
use tokio::time::Instant;

/// Until when a warrant is to be redeemed: as long as it takes to find an edge that answers.
const REDEEMED_IN: Duration = Duration::from_secs(600);
/// Until when a redeemed one is to be used: as long as an object takes to come.
const USED_IN: Duration = Duration::from_secs(3600);
/// Errands of one edge that are under way. It has fewer: with one more its oldest is over.
const MOST_OF_ONE: usize = 512;
/// The same of all edges. With one more it is refused.
const MOST: usize = 65_536;

/// All that count.
#[derive(Debug, Default)]
pub(crate) struct Warrants {
    errands: HashMap<u64, UnderWay>,
    /// Who asked for which, in their order; those that are over may be among them.
    of: HashMap<String, VecDeque<u64>>,
    last: u64,
}

/// An errand that is under way.
#[derive(Debug)]
struct UnderWay {
    errand: Errand,
    /// The client.
    by: Caller,
    until: Instant,
    edges: Vec<Edge>,
}

/// An edge that may do it.
#[derive(Debug)]
struct Edge {
    instance: String,
    /// Of its warrant.
    hash: Sha256Hash,
    redeemed: bool,
}

impl Warrants {
    /// A warrant for each of these edges, in their order.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where too many are under way.
    pub(crate) fn issue(
        &mut self,
        asker: &str,
        edges: &[String],
        errand: Errand,
        by: Caller,
        now: Instant,
    ) -> Result<Vec<Secret>> {
        if self.errands.len() >= MOST {
            return Err(Error::new(
                Code::Overloaded,
                format!("{MOST} uploads are on their way between edges"),
            ));
        }
        self.last += 1;
        let number = self.last;
        let warrants: Vec<_> = edges.iter().map(|_| make(number)).collect::<Result<_>>()?;
        let edge = |(instance, warrant): (&String, &Secret)| Edge {
            instance: instance.clone(),
            hash: hash(warrant),
            redeemed: false,
        };
        let edges = edges.iter().zip(&warrants).map(edge).collect();
        self.errands.insert(number, UnderWay { errand, by, until: now + REDEEMED_IN, edges });
        self.remember(asker, number);
        Ok(warrants)
    }

    fn remember(&mut self, asker: &str, number: u64) {
        let of_one = self.of.entry(asker.to_owned()).or_default();
        of_one.push_back(number);
        if of_one.len() > MOST_OF_ONE {
            of_one.retain(|number| self.errands.contains_key(number));
        }
        if of_one.len() > MOST_OF_ONE
            && let Some(oldest) = of_one.pop_front()
        {
            self.errands.remove(&oldest);
        }
    }

    /// An edge is about to do an errand. What is kept once needs no other warrant; a NAR is known by its name, so nothing
    /// more is asked of who keeps one.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] where this warrant is not for that.
    pub(crate) fn redeem(&mut self, bearer: &Bearer, errand: &Errand, now: Instant) -> Result<()> {
        let (number, at) = self.find(bearer, errand, false, now)?;
        if matches!(errand, Errand::KeepNar(_)) {
            self.errands.remove(&number);
            return Ok(());
        }
        let Some(under_way) = self.errands.get_mut(&number) else { return Err(unknown()) };
        under_way.edges[at].redeemed = true;
        under_way.until = now + USED_IN;
        if matches!(errand, Errand::KeepObject(_)) {
            under_way.edges.retain(|edge| edge.redeemed);
        }
        Ok(())
    }

    /// The errand is done. Returns for whom.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] where its warrant was not redeemed for that.
    pub(crate) fn done(&mut self, bearer: &Bearer, errand: &Errand, now: Instant) -> Result<Caller> {
        let (number, at) = self.find(bearer, errand, true, now)?;
        let Some(under_way) = self.errands.get_mut(&number) else { return Err(unknown()) };
        let by = under_way.by.clone();
        under_way.edges.remove(at);
        if under_way.edges.is_empty() {
            self.errands.remove(&number);
        }
        Ok(by)
    }

    fn find(&self, bearer: &Bearer, errand: &Errand, redeemed: bool, now: Instant) -> Result<(u64, usize)> {
        let number = number(&bearer.warrant).ok_or_else(unknown)?;
        let under_way =
            self.errands.get(&number).filter(|known| known.errand == *errand && now < known.until);
        let edges = under_way.map(|known| &known.edges[..]).unwrap_or_default();
        let shown = tokens::find_by(edges, |edge| &edge.hash, bearer.warrant.reveal().as_bytes());
        let shown = shown.filter(|edge| edge.instance == bearer.instance && edge.redeemed == redeemed);
        let at = shown.and_then(|shown| edges.iter().position(|edge| edge.hash == shown.hash));
        at.map(|at| (number, at)).ok_or_else(unknown)
    }

    /// Forgets what came to nothing.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.errands.retain(|_, errand| now < errand.until);
        self.of.retain(|_, of_one| {
            of_one.retain(|number| self.errands.contains_key(number));
            !of_one.is_empty()
        });
    }
}

/// A warrant says which errand it is for, and something that nobody guesses.
fn make(number: u64) -> Result<Secret> {
    let mut random = [0; 25];
    getrandom::fill(&mut random).map_err(|e| Error::internal(format!("no randomness: {e}")))?;
    Ok(Secret::new(format!("{number}.{}", nix32::encode(&random))))
}

fn number(warrant: &Secret) -> Option<u64> {
    warrant.reveal().split_once('.')?.0.parse().ok()
}

fn hash(warrant: &Secret) -> Sha256Hash {
    Sha256Hash::of(warrant.reveal().as_bytes())
}

fn unknown() -> Error {
    Error::new(Code::Unauthenticated, "the warrant is not for this, was used, or is over")
}

#[cfg(test)]
mod tests {
    use ncps_nix::ObjectName;

    use super::*;

    fn log(name: &str) -> ObjectName {
        ObjectName::parse(&format!("log/00000000000000000000000000000000-{name}.drv")).expect("a name")
    }

    fn client() -> Caller {
        Caller { who: "token ci".to_owned() }
    }

    fn keep(name: &str) -> Errand {
        Errand::KeepObject(log(name))
    }

    struct Case {
        all: Warrants,
        now: Instant,
    }

    impl Case {
        fn new() -> Case {
            Case { all: Warrants::default(), now: Instant::now() }
        }

        fn issue(&mut self, asker: &str, edges: &[&str], errand: Errand) -> Vec<Bearer> {
            let edges: Vec<_> = edges.iter().map(ToString::to_string).collect();
            let made = self.all.issue(asker, &edges, errand, client(), self.now).expect("there is room");
            let bearer = |(instance, warrant)| Bearer { instance, warrant };
            edges.into_iter().zip(made).map(bearer).collect()
        }

        fn redeems(&mut self, bearer: &Bearer, errand: &Errand) -> bool {
            self.all.redeem(bearer, errand, self.now).is_ok()
        }

        fn does(&mut self, bearer: &Bearer, errand: &Errand) -> bool {
            self.all.done(bearer, errand, self.now).is_ok_and(|by| by == client())
        }
    }

    #[test]
    fn it_is_for_one_edge_and_one_errand_and_counts_once() {
        let mut case = Case::new();
        let [a, b] = &case.issue("asker", &["a", "b"], keep("x"))[..] else { unreachable!("two were named") };
        let a_with_bs = Bearer { warrant: b.warrant.clone(), ..a.clone() };
        let guess = Bearer { warrant: Secret::new("1.guess"), ..a.clone() };
        for wrong in [&a_with_bs, &guess, &Bearer { warrant: Secret::new("nonsense"), ..a.clone() }] {
            assert!(!case.redeems(wrong, &keep("x")));
        }
        assert!(!case.redeems(a, &keep("y")) && !case.redeems(a, &Errand::DeleteObject(log("x"))));
        assert!(!case.does(a, &keep("x")), "it was not redeemed");
        assert!(case.redeems(a, &keep("x")) && !case.redeems(a, &keep("x")));
        assert!(!case.redeems(b, &keep("x")), "one edge is enough to keep it");
        assert!(case.does(a, &keep("x")) && !case.does(a, &keep("x")));
        assert!(case.all.errands.is_empty());
    }

    #[test]
    fn every_edge_deletes_for_itself() {
        let (mut case, errand) = (Case::new(), Errand::DeleteObject(log("x")));
        for bearer in case.issue("asker", &["a", "b"], errand.clone()) {
            assert!(case.redeems(&bearer, &errand) && case.does(&bearer, &errand));
        }
        assert!(case.all.errands.is_empty());
    }

    #[test]
    fn it_is_over_after_a_while() {
        let mut case = Case::new();
        let bearers = case.issue("asker", &["a"], keep("x"));
        case.now += REDEEMED_IN;
        assert!(!case.redeems(&bearers[0], &keep("x")));
        let bearers = case.issue("asker", &["a"], keep("x"));
        assert!(case.redeems(&bearers[0], &keep("x")));
        case.all.expire(case.now);
        case.now += USED_IN - Duration::from_secs(1);
        assert!(case.does(&bearers[0], &keep("x")));
        case.issue("asker", &["a"], keep("y"));
        case.now += REDEEMED_IN;
        case.all.expire(case.now);
        assert!(case.all.errands.is_empty() && case.all.of.is_empty());
    }

    #[test]
    fn an_edge_that_asks_without_end_pushes_out_its_own_alone() {
        let mut case = Case::new();
        let others = case.issue("other", &["a"], keep("x"));
        let first = case.issue("asker", &["a"], keep("x"));
        for _ in 0..MOST_OF_ONE {
            case.issue("asker", &["a"], keep("x"));
        }
        assert!(!case.redeems(&first[0], &keep("x")) && case.redeems(&others[0], &keep("x")));
        assert_eq!(case.all.errands.len(), MOST_OF_ONE + 1);
    }

    #[test]
    fn there_is_a_bound_for_all() {
        let mut case = Case::new();
        for asker in 0..MOST / MOST_OF_ONE {
            for _ in 0..MOST_OF_ONE {
                case.issue(&asker.to_string(), &[], keep("x"));
            }
        }
        let refused = case.all.issue("one more", &[], keep("x"), client(), case.now).expect_err("too many");
        assert_eq!(refused.code(), Code::Overloaded);
        case.all.expire(case.now + REDEEMED_IN);
        case.issue("one more", &[], keep("x"));
    }
}
