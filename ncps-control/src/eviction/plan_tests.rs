//! Properties of the planner over any files and any budget, and the thresholds by example.

use std::collections::BTreeSet;

use ncps_nix::Compression;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::file;

fn candidate(seed: usize, (bytes, at, order, in_flight, uploaded, pinned): Facts) -> Candidate {
    let (accessed, name) = (Access { at: UnixTime(at), order }, file(&seed.to_string(), Compression::Xz));
    Candidate { name, bytes, accessed, in_flight, pinned, uploaded, spare: false, superseded: false }
}

fn spare(candidate: Candidate) -> Candidate {
    Candidate { spare: true, ..candidate }
}

type Facts = (u64, i64, u64, bool, bool, bool);

fn held() -> impl Strategy<Value = Vec<Candidate>> {
    let rare = || prop::bool::weighted(0.2);
    let facts = (0..1_000_000_u64, 0..5_i64, 0..3_u64, rare(), rare(), rare());
    let any = |(n, (facts, spare))| Candidate { spare, ..candidate(n, facts) };
    vec((facts, any_bool()), 0..40).prop_map(move |all| all.into_iter().enumerate().map(any).collect())
}

fn any_bool() -> impl Strategy<Value = bool> {
    prop::bool::ANY
}

fn names(plan: &Plan) -> Vec<NarFileName> {
    plan.victims.iter().map(|victim| victim.name).collect()
}

fn may_go(candidate: &&Candidate) -> bool {
    !candidate.in_flight && !candidate.pinned
}

fn bytes_of(held: &[Candidate], names: &[NarFileName]) -> u64 {
    held.iter().filter(|c| names.contains(&c.name)).map(|c| c.bytes).sum()
}

fn order(candidate: &Candidate) -> (bool, bool, Access, NarFileName) {
    let Candidate { spare, uploaded, accessed, name, .. } = *candidate;
    (!spare, !spare && uploaded, accessed, name)
}

proptest! {
    #[test]
    fn nothing_goes_that_is_in_flight_or_pinned(held in held(), missing in 0..20_000_000_u64) {
        let plan = plan(held.iter().copied(), missing);
        prop_assert!(plan.victims.iter().all(|victim| may_go(&victim)));
        let pinned = held.iter().filter(|c| c.pinned).map(|c| c.bytes).sum::<u64>();
        prop_assert_eq!(plan.pinned, pinned);
    }

    #[test]
    fn the_budget_is_met_where_it_can_be(held in held(), missing in 0..20_000_000_u64) {
        let plan = plan(held.iter().copied(), missing);
        let possible: u64 = held.iter().filter(may_go).map(|c| c.bytes).sum();
        prop_assert_eq!(plan.bytes, bytes_of(&held, &names(&plan)));
        prop_assert!(plan.bytes >= missing.min(possible));
        prop_assert_eq!(plan.shortfall, missing.saturating_sub(possible));
    }

    #[test]
    fn the_oldest_go_and_no_more_than_needed(held in held(), missing in 0..20_000_000_u64) {
        let plan = plan(held.iter().copied(), missing);
        let mut sorted: Vec<_> = held.iter().filter(may_go).collect();
        sorted.sort_by_key(|c| order(c));
        let oldest: Vec<_> = sorted.iter().take(plan.victims.len()).map(|c| c.name).collect();
        prop_assert_eq!(&names(&plan), &oldest);
        if let Some((_, fewer)) = names(&plan).split_last() {
            prop_assert!(bytes_of(&held, fewer) < missing, "one less would do");
        }
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(
        (held, shuffled) in held().prop_flat_map(|held| (Just(held.clone()), Just(held).prop_shuffle())),
        missing in 0..20_000_000_u64,
    ) {
        prop_assert_eq!(plan(held, missing), plan(shuffled, missing));
    }

    #[test]
    fn carried_out_it_leaves_nothing_to_do(
        held in held(),
        limit in prop::option::of(0..20_000_000_u64),
        free in 0..2_000_000_u64,
        percent in 0..10_u32,
        wanted in 0..1_000_000_u64,
    ) {
        let used = held.iter().map(|c| c.bytes).sum();
        let mut disk = DiskReport { number: 1, total: 30_000_000, free, used, wanted };
        let budget = Budget { limit, min_free: MinFree { percent, at_most: u64::MAX } };
        let first = plan(held.iter().copied(), budget.missing(&disk));
        let gone: BTreeSet<_> = names(&first).into_iter().collect();
        (disk.used, disk.free) = (disk.used - first.bytes, disk.free + first.bytes);
        let left: Vec<_> = held.iter().filter(|c| !gone.contains(&c.name)).copied().collect();
        let second = plan(left, budget.missing(&disk));
        prop_assert_eq!(second.victims, vec![]);
    }
}

fn disk(used: u64, free: u64, wanted: u64) -> DiskReport {
    DiskReport { number: 1, total: 1000, free, used, wanted }
}

#[test]
fn past_the_limit_it_goes_down_to_90_percent() {
    let budget = Budget { limit: Some(100), min_free: MinFree::NOTHING };
    assert_eq!(budget.missing(&disk(100, 1000, 0)), 0, "at the limit nothing is missing");
    assert_eq!(budget.missing(&disk(101, 1000, 0)), 11);
    assert_eq!(budget.missing(&disk(95, 1000, 10)), 15, "what waits for room counts");
    assert_eq!(budget.missing(&disk(95, 1000, 95)), 90, "a large file gets what it needs");
    assert_eq!(budget.missing(&disk(50, 1000, 500)), 50, "no more than there is");
    let unlimited = Budget { limit: None, min_free: MinFree::NOTHING };
    assert_eq!(unlimited.missing(&disk(u64::MAX, 1000, 0)), 0);
}

#[test]
fn free_space_is_kept() {
    let budget = Budget { limit: None, min_free: MinFree { percent: 5, at_most: 40 } };
    assert_eq!(budget.missing(&disk(500, 40, 0)), 0, "5 % would be 50, but 40 are enough");
    assert_eq!(budget.missing(&disk(500, 39, 0)), 5);
    assert_eq!(budget.missing(&disk(500, 45, 20)), 19);
}

#[test]
fn uploads_go_last() {
    let old_upload = candidate(1, (10, 0, 0, false, true, false));
    let new = candidate(2, (10, 9, 0, false, false, false));
    assert_eq!(names(&plan([old_upload, new], 10)), [new.name]);
    assert_eq!(names(&plan([old_upload, new], 11)), [new.name, old_upload.name]);
}

#[test]
fn an_upload_goes_last_while_a_narinfo_names_it_or_may_still_come() {
    let accessed = Access { at: UnixTime(1000), order: 0 };
    let last = |standing: Standing, now| standing.goes_last(accessed, UnixTime(now));
    assert!(last(Standing::Promised, 1000) && last(Standing::Promised, i64::MAX));
    assert!(last(Standing::Unnamed, 1000) && last(Standing::Unnamed, 999 + GRACE));
    assert!(!last(Standing::Unnamed, 1000 + GRACE), "nobody can ask for it");
    assert!(last(Standing::Unnamed, i64::MIN), "by a clock that was set back");
    assert!(!last(Standing::Replaceable, 1000));
}

#[test]
fn uploads_go_last_and_among_themselves_oldest_first() {
    let upload = |seed, at| candidate(seed, (10, at, 0, false, true, false));
    let (newest, old, older) = (candidate(1, (10, 9, 0, false, false, false)), upload(2, 2), upload(3, 1));
    assert_eq!(names(&plan([newest, old, older], 30)), [newest.name, older.name, old.name]);
    assert_eq!(names(&plan([newest, old, older], 20)), [newest.name, older.name]);
}

#[test]
fn what_others_hold_too_goes_first_whatever_it_is() {
    let old = candidate(1, (10, 0, 0, false, false, false));
    let new_copy = spare(candidate(2, (10, 8, 0, false, false, false)));
    let newest_upload = spare(candidate(3, (10, 9, 0, false, true, false)));
    let upload = candidate(4, (10, 1, 0, false, true, false));
    let all = [upload, old, newest_upload, new_copy];
    assert_eq!(names(&plan(all, 40)), [new_copy, newest_upload, old, upload].map(|c| c.name));
    assert_eq!(names(&plan(all, 20)), [new_copy, newest_upload].map(|c| c.name));
}

#[test]
fn what_is_pinned_stays_although_it_is_the_oldest_and_all_that_is_left() {
    let pinned = candidate(1, (10, 0, 0, false, false, true));
    let (new, newer) =
        (candidate(2, (10, 8, 0, false, false, false)), candidate(3, (10, 9, 0, false, false, false)));
    assert_eq!(names(&plan([newer, pinned, new], 5)), [new.name]);
    let plan = plan([newer, pinned, new], 25);
    assert_eq!(names(&plan), [new.name, newer.name]);
    assert_eq!((plan.shortfall, plan.pinned), (5, 10));
}
