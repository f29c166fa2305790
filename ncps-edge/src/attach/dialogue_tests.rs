//! What an edge says first, what it says again, and when it gives up a session.

use ncps_nix::{Compression, FileHash, Sha256Hash};

use super::*;

fn file(seed: u8) -> NarFileName {
    NarFileName { hash: FileHash(Sha256Hash::of(&[seed])), compression: Compression::Xz }
}

fn held(seed: u8) -> HeldNar {
    HeldNar { name: file(seed), file_size: 1, disk_bytes: 4096 }
}

fn hello() -> Hello {
    Hello::new("edge", "i")
}

fn configure(run: &str, resumes: Option<u64>) -> Told {
    let settings = ncps_proto::decode_settings(&[]).expect("what is not said has defaults");
    let welcome = Some(Welcome { run: run.to_owned(), resumes });
    Told { number: 0, welcome, directive: Directive::Configure(Box::new(settings)) }
}

fn told(number: u64, directive: Directive) -> Told {
    Told { number, welcome: None, directive }
}

/// A session begins; returns what hello says of the one before.
fn begin(dialogue: &mut Dialogue) -> Option<Resume> {
    let EdgeReport::Hello(hello) = dialogue.begin(hello()).report else { panic!("hello is first") };
    assert_eq!(dialogue.next(), Ok(None), "nothing before control has said who it is");
    hello.resume
}

/// Everything that is to be said of the store, which holds these.
fn says(dialogue: &mut Dialogue, stored: &[u8]) -> Vec<(u64, EdgeReport)> {
    let mut all = Vec::new();
    let on_disk = |name| stored.iter().map(|seed| held(*seed)).find(|held| held.name == name);
    while let Some(next) = dialogue.next().expect("it goes on") {
        let said = match next {
            Next::List => {
                dialogue.listed(stored.iter().map(|seed| held(*seed)).collect());
                continue;
            }
            Next::Say(said) => said,
            Next::Look { number, change } => match dialogue.look(number, change, on_disk) {
                Some(said) => said,
                None => continue,
            },
            Next::UpstreamBack | Next::Drained | Next::Accesses | Next::Disk | Next::Totals => continue,
        };
        all.push((said.number, said.report));
    }
    all
}

fn inventory(seeds: &[u8]) -> EdgeReport {
    EdgeReport::Inventory { held: seeds.iter().map(|seed| held(*seed)).collect(), last: true }
}

fn gone(number: u64, seed: u8) -> EdgeReport {
    EdgeReport::Evicted { number, gone: vec![file(seed)] }
}

#[test]
fn everything_is_said_to_who_knows_nothing_and_then_what_changed() {
    let mut dialogue = Dialogue::default();
    dialogue.changed(file(1));
    assert_eq!(begin(&mut dialogue), None);
    dialogue.hear(configure("run", None)).expect("goes on");
    assert_eq!(says(&mut dialogue, &[1]), [(2, inventory(&[1]))]);
    dialogue.changed(file(2));
    dialogue.changed(file(1));
    assert_eq!(says(&mut dialogue, &[2]), [(3, EdgeReport::Committed(held(2))), (4, gone(0, 1))]);
    assert!(dialogue.has_said_all());
}

#[test]
fn to_the_run_that_knows_the_rest_only_changes_are_said() {
    let mut dialogue = Dialogue::default();
    begin(&mut dialogue);
    dialogue.hear(configure("run", None)).expect("goes on");
    says(&mut dialogue, &[1]);
    dialogue.hear(told(0, Directive::Heard(1))).expect("goes on");
    [2, 3].into_iter().for_each(|seed| dialogue.changed(file(seed)));
    says(&mut dialogue, &[1, 2, 3]);
    dialogue.hear(told(0, Directive::Heard(2))).expect("goes on");
    dialogue.end();
    dialogue.changed(file(4));
    assert_eq!(begin(&mut dialogue), Some(Resume { run: "run".to_owned(), heard: 2 }));
    dialogue.hear(configure("run", Some(2))).expect("goes on");
    let again = [(3, EdgeReport::Committed(held(3))), (4, EdgeReport::Committed(held(4)))];
    assert_eq!(says(&mut dialogue, &[1, 2, 3, 4]), again);
}

#[test]
fn a_run_that_knows_nothing_or_too_little_hears_everything() {
    for (run, resumes) in [("other", None), ("run", Some(0)), ("run", Some(9))] {
        let mut dialogue = Dialogue::default();
        begin(&mut dialogue);
        dialogue.hear(configure("run", None)).expect("goes on");
        dialogue.changed(file(1));
        says(&mut dialogue, &[1]);
        dialogue.hear(told(0, Directive::Heard(2))).expect("goes on");
        begin(&mut dialogue);
        dialogue.hear(configure(run, resumes)).expect("goes on");
        assert_eq!(says(&mut dialogue, &[1]), [(2, inventory(&[1]))], "{run} {resumes:?}");
    }
}

#[test]
fn pages_end_with_the_last_and_an_empty_store_says_so() {
    let mut dialogue = Dialogue::default();
    begin(&mut dialogue);
    dialogue.hear(configure("run", None)).expect("goes on");
    assert_eq!(dialogue.next(), Ok(Some(Next::List)));
    assert_eq!(dialogue.next(), Ok(None), "it is being listed");
    dialogue.listed(vec![held(1); PAGE + 1]);
    let mut sizes = Vec::new();
    while let Ok(Some(Next::Say(Said { report: EdgeReport::Inventory { held, last }, .. }))) = dialogue.next()
    {
        sizes.push((held.len(), last));
    }
    assert_eq!(sizes, [(PAGE, false), (1, true)]);
    begin(&mut dialogue);
    dialogue.hear(configure("run", None)).expect("goes on");
    assert_eq!(says(&mut dialogue, &[]), [(1, inventory(&[]))]);
}

#[test]
fn after_a_gap_the_session_is_over() {
    let mut dialogue = Dialogue::default();
    begin(&mut dialogue);
    assert_eq!(dialogue.hear(told(1, Directive::EndJob(1))), Err(Broken::NotConfigured));
    dialogue.hear(configure("run", None)).expect("goes on");
    dialogue.hear(told(1, Directive::EndJob(1))).expect("goes on");
    dialogue.hear(configure("run", None)).expect("it overtakes");
    assert_eq!(dialogue.hear(told(3, Directive::EndJob(1))), Err(Broken::Gap { heard: 1, next: 3 }));
    begin(&mut dialogue);
    dialogue.hear(configure("run", None)).expect("goes on");
    dialogue.hear(told(1, Directive::EndJob(1))).expect("each session counts anew");
    assert_eq!(dialogue.says(EdgeReport::UpstreamBack).heard, 1);
}

#[test]
fn an_answer_is_its_own_sessions_and_what_came_again_is_not_gone() {
    let mut dialogue = Dialogue::default();
    begin(&mut dialogue);
    dialogue.hear(configure("run", None)).expect("goes on");
    says(&mut dialogue, &[1, 2]);
    let victims = vec![Victim { name: file(1), narinfos: Vec::new() }];
    let eviction = Eviction { victims, settles: None, number: 7 };
    let Ok(Some(Effect::Evict { ticket, .. })) = dialogue.hear(told(1, Directive::Evict(eviction))) else {
        panic!("it is to be done")
    };
    assert!(dialogue.is_busy());
    dialogue.changed(file(1));
    assert_eq!(says(&mut dialogue, &[2]), [], "the answer is going to say it");
    dialogue.done(ticket, vec![file(1), file(2)]);
    assert!(!dialogue.is_busy());
    assert_eq!(says(&mut dialogue, &[2]), [(3, gone(7, 1))], "2 came again");
    begin(&mut dialogue);
    dialogue.hear(configure("run", None)).expect("goes on");
    says(&mut dialogue, &[]);
    dialogue.done(ticket, vec![file(1)]);
    dialogue.done(ticket, Vec::new());
    assert_eq!(says(&mut dialogue, &[]), [(4, gone(0, 1))], "nobody waits any more");
}

#[test]
fn for_another_index_nothing_is_removed_and_that_is_said() {
    let mut dialogue = Dialogue::default();
    begin(&mut dialogue);
    dialogue.hear(configure("run", None)).expect("goes on");
    dialogue.belongs(false);
    says(&mut dialogue, &[1]);
    let removal = Removal { number: 3, store_paths: Vec::new(), nars: vec![file(1)] };
    assert_eq!(dialogue.hear(told(1, Directive::Remove(removal))), Ok(Some(Effect::Refused(1))));
    assert_eq!(says(&mut dialogue, &[1]), [(2, EdgeReport::Evicted { number: 3, gone: Vec::new() })]);
}

#[test]
fn a_narinfo_that_could_not_be_made_to_agree_is_named_again() {
    let mut dialogue = Dialogue::default();
    begin(&mut dialogue);
    dialogue.hear(configure("run", None)).expect("goes on");
    let paths = [1, 2].map(|seed| StorePathHash::from_bytes([seed; 20]));
    dialogue.hear(told(1, Directive::Invalidate(paths.to_vec()))).expect("goes on");
    dialogue.agrees(paths[0]);
    begin(&mut dialogue);
    let began = dialogue.hear(configure("run", None));
    assert!(matches!(began, Ok(Some(Effect::Begin { behind, .. })) if behind == paths[1..]));
}
