//! Work that control gives an attached edge to do in the background, and what the edge says of it: domain types,
//! and to messages and back.
//!
//! A job belongs to a session. It ends with [`JobSaid::Ended`], or with the session. An edge runs one job of a
//! [kind](JobKind) at a time and refuses another one. Absent on purpose: what control makes of what it hears.

use std::num::NonZeroU64;

use ncps_nix::{NarFileName, StorePathHash};

use crate::convert::{
    all, malformed, nar_facts, nar_facts_wire, nar_file_name, nar_file_name_wire, non_empty, required,
    store_path_hash,
};
use crate::gen_v1 as wire;
use crate::{NarFacts, Result};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Compares stored NAR files with their names. One that is wrong or can't be read goes into quarantine, is said
    /// as [`Verdict::Wrong`] or [`Verdict::Unreadable`], then fetched again, and said again.
    Scrub(Scrub),
    /// Looks at these files, hashing and decoding each, and says a verdict for every one. Changes nothing.
    Verify(Vec<NarFileName>),
    /// Says every narinfo file of the store, in pages. What control makes of them is its own business.
    ListNarinfos,
    /// Fetches paths as for clients, as far as they are not here, and says of each what became of it.
    Prefetch(Prefetch),
}

/// Jobs of one kind exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobKind {
    Scrub,
    Verify,
    ListNarinfos,
    Prefetch,
}

impl Job {
    /// Which kind it is.
    pub fn kind(&self) -> JobKind {
        match self {
            Job::Scrub(_) => JobKind::Scrub,
            Job::Verify(_) => JobKind::Verify,
            Job::ListNarinfos => JobKind::ListNarinfos,
            Job::Prefetch(_) => JobKind::Prefetch,
        }
    }
}

/// How a store is scrubbed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrub {
    /// These files; none: all of the store.
    pub files: Vec<NarFileName>,
    /// Bytes read per second at most. `None`: as fast as the disk gives them.
    pub rate: Option<NonZeroU64>,
    /// Decodes compressed files, too, and says what each decodes to.
    pub deep: bool,
}

/// What is prefetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefetch {
    pub paths: Vec<StorePathHash>,
    /// With all that they refer to, and so on.
    pub closure: bool,
}

/// A path, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefetched {
    pub path: StorePathHash,
    pub outcome: Outcome,
}

/// What a prefetch did with one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its NAR file was in the store, with so many bytes.
    Here(u64),
    /// Its NAR file is in the store now, with so many bytes.
    Fetched(u64),
    /// Nobody has it, or its NAR; who says so.
    Absent(String),
    /// It can't be said whether it can be had, or it could not be kept; why.
    Failed(String),
}

/// What an edge says of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobReport {
    /// The job's number in this session.
    pub id: u64,
    pub said: JobSaid,
}

/// Progress, findings, and the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobSaid {
    Progress(JobProgress),
    /// What a file turned out to be. A scrub that is not deep says nothing of files that are right.
    Checked(Checked),
    /// A page of narinfo files, unread.
    Narinfos(Vec<String>),
    /// What became of one path.
    Prefetched(Prefetched),
    /// The last that is said; why, where it could not do all that it should.
    Ended(std::result::Result<(), String>),
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobProgress {
    pub files: u64,
    pub bytes: u64,
    /// Of all that there is to do, as counted at its start.
    pub all_files: u64,
    pub all_bytes: u64,
}

/// A file and what it turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub name: NarFileName,
    pub verdict: Verdict,
    /// In bytes; 0 where it could not be looked at.
    pub file_size: u64,
    /// What it decodes to, where it was decoded.
    pub nar: Option<NarFacts>,
    /// For people; may be empty.
    pub reason: String,
}

/// What a NAR file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes that its name says.
    Right,
    /// Other bytes.
    Wrong,
    /// The disk does not give its bytes.
    Unreadable,
    /// It is not in the store.
    Missing,
    /// It was wrong; the right bytes are in its place.
    Healed,
    /// It was wrong, and every source says that it has no such file: it stays missing.
    Lost,
    /// It was wrong, and can't be fetched now: whoever asks for it tries again.
    Unhealed,
}

pub(crate) fn job(wire: wire::Job) -> Result<Job> {
    use wire::job::Job as Wire;
    let names = |files: Vec<wire::NarFileName>| all(files, |name| nar_file_name(Some(name)));
    Ok(match required(wire.job, "job")? {
        Wire::Scrub(scrub) => Job::Scrub(Scrub {
            files: names(scrub.files)?,
            rate: scrub.bytes_per_second.and_then(NonZeroU64::new),
            deep: scrub.deep,
        }),
        Wire::Verify(verify) => Job::Verify(names(verify.files)?),
        Wire::ListNarinfos(wire::ListNarinfos {}) => Job::ListNarinfos,
        Wire::Prefetch(prefetch) => Job::Prefetch(Prefetch {
            paths: all(prefetch.store_path_hashes, |hash| store_path_hash(&hash))?,
            closure: prefetch.closure,
        }),
    })
}

pub(crate) fn job_wire(id: u64, job: Job) -> wire::Job {
    use wire::job::Job as Wire;
    let names = |files: Vec<NarFileName>| files.into_iter().map(nar_file_name_wire).collect();
    let job = match job {
        Job::Scrub(Scrub { files, rate, deep }) => Wire::Scrub(wire::Scrub {
            files: names(files),
            bytes_per_second: rate.map(NonZeroU64::get),
            deep,
        }),
        Job::Verify(files) => Wire::Verify(wire::Verify { files: names(files) }),
        Job::ListNarinfos => Wire::ListNarinfos(wire::ListNarinfos {}),
        Job::Prefetch(Prefetch { paths, closure }) => Wire::Prefetch(wire::Prefetch {
            store_path_hashes: paths.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
            closure,
        }),
    };
    wire::Job { id, job: Some(job) }
}

pub(crate) fn report(wire: wire::JobReport) -> Result<JobReport> {
    use wire::job_report::Said;
    let said = match required(wire.said, "job report")? {
        Said::Progress(p) => JobSaid::Progress(progress(p)),
        Said::Checked(file) => JobSaid::Checked(checked(file)?),
        Said::Narinfos(page) => JobSaid::Narinfos(page.narinfos),
        Said::Prefetched(path) => JobSaid::Prefetched(prefetched(path)?),
        Said::End(end) => JobSaid::Ended(non_empty(end.failure).map_or(Ok(()), Err)),
    };
    Ok(JobReport { id: wire.id, said })
}

pub(crate) fn report_wire(report: JobReport) -> wire::JobReport {
    use wire::job_report::Said;
    let said = match report.said {
        JobSaid::Progress(p) => Said::Progress(progress_wire(p)),
        JobSaid::Checked(file) => Said::Checked(checked_wire(file)),
        JobSaid::Narinfos(narinfos) => Said::Narinfos(wire::NarinfoPage { narinfos }),
        JobSaid::Prefetched(path) => Said::Prefetched(prefetched_wire(path)),
        JobSaid::Ended(end) => Said::End(wire::JobEnd { failure: end.err().unwrap_or_default() }),
    };
    wire::JobReport { id: report.id, said: Some(said) }
}

pub(crate) fn progress(wire: wire::JobProgress) -> JobProgress {
    let wire::JobProgress { files, bytes, all_files, all_bytes } = wire;
    JobProgress { files, bytes, all_files, all_bytes }
}

pub(crate) fn progress_wire(progress: JobProgress) -> wire::JobProgress {
    let JobProgress { files, bytes, all_files, all_bytes } = progress;
    wire::JobProgress { files, bytes, all_files, all_bytes }
}

pub(crate) fn checked(wire: wire::CheckedFile) -> Result<Checked> {
    Ok(Checked {
        verdict: verdict(wire.verdict())?,
        name: nar_file_name(wire.nar)?,
        file_size: wire.file_size,
        nar: wire.facts.as_ref().map(nar_facts).transpose()?,
        reason: wire.reason,
    })
}

pub(crate) fn checked_wire(checked: Checked) -> wire::CheckedFile {
    wire::CheckedFile {
        nar: Some(nar_file_name_wire(checked.name)),
        verdict: verdict_wire(checked.verdict).into(),
        file_size: checked.file_size,
        facts: checked.nar.map(nar_facts_wire),
        reason: checked.reason,
    }
}

pub(crate) fn prefetched(wire: wire::PrefetchedPath) -> Result<Prefetched> {
    use wire::prefetched_path::Outcome as Wire;
    let outcome = match required(wire.outcome, "outcome")? {
        Wire::Here(bytes) => Outcome::Here(bytes),
        Wire::Fetched(bytes) => Outcome::Fetched(bytes),
        Wire::Absent(why) => Outcome::Absent(why),
        Wire::Failed(why) => Outcome::Failed(why),
    };
    Ok(Prefetched { path: store_path_hash(&wire.store_path_hash)?, outcome })
}

pub(crate) fn prefetched_wire(Prefetched { path, outcome }: Prefetched) -> wire::PrefetchedPath {
    use wire::prefetched_path::Outcome as Wire;
    let outcome = match outcome {
        Outcome::Here(bytes) => Wire::Here(bytes),
        Outcome::Fetched(bytes) => Wire::Fetched(bytes),
        Outcome::Absent(why) => Wire::Absent(why),
        Outcome::Failed(why) => Wire::Failed(why),
    };
    wire::PrefetchedPath { store_path_hash: path.as_bytes().to_vec(), outcome: Some(outcome) }
}

fn verdict(wire: wire::Verdict) -> Result<Verdict> {
    Ok(match wire {
        wire::Verdict::Right => Verdict::Right,
        wire::Verdict::Wrong => Verdict::Wrong,
        wire::Verdict::Unreadable => Verdict::Unreadable,
        wire::Verdict::Missing => Verdict::Missing,
        wire::Verdict::Healed => Verdict::Healed,
        wire::Verdict::Lost => Verdict::Lost,
        wire::Verdict::Unhealed => Verdict::Unhealed,
        wire::Verdict::Unspecified => return Err(malformed("verdict")),
    })
}

fn verdict_wire(verdict: Verdict) -> wire::Verdict {
    match verdict {
        Verdict::Right => wire::Verdict::Right,
        Verdict::Wrong => wire::Verdict::Wrong,
        Verdict::Unreadable => wire::Verdict::Unreadable,
        Verdict::Missing => wire::Verdict::Missing,
        Verdict::Healed => wire::Verdict::Healed,
        Verdict::Lost => wire::Verdict::Lost,
        Verdict::Unhealed => wire::Verdict::Unhealed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ncps_nix::{Compression, FileHash, NarHash, Sha256Hash};

    fn name() -> NarFileName {
        NarFileName { hash: FileHash(Sha256Hash::of(b"a")), compression: Compression::Xz }
    }

    #[test]
    fn jobs_survive_the_wire() {
        let scrub = Scrub { files: vec![name()], rate: NonZeroU64::new(5), deep: true };
        let prefetch = Prefetch { paths: vec![StorePathHash::from_bytes([7; 20])], closure: true };
        let jobs = [
            Job::Scrub(Scrub::default()),
            Job::Scrub(scrub),
            Job::Verify(vec![name()]),
            Job::ListNarinfos,
            Job::Prefetch(prefetch),
        ];
        for sent in jobs {
            assert_eq!(job(job_wire(7, sent.clone())).expect("parses"), sent);
        }
    }

    #[test]
    fn reports_survive_the_wire() {
        let nar = Some(NarFacts { hash: NarHash(Sha256Hash::of(b"b")), size: 3 });
        let verdicts = [
            Verdict::Right,
            Verdict::Wrong,
            Verdict::Unreadable,
            Verdict::Missing,
            Verdict::Healed,
            Verdict::Lost,
            Verdict::Unhealed,
        ];
        let checked = verdicts.map(|verdict| {
            JobSaid::Checked(Checked { name: name(), verdict, file_size: 9, nar, reason: "so".to_owned() })
        });
        let outcomes = [
            Outcome::Here(1),
            Outcome::Fetched(2),
            Outcome::Absent("a".to_owned()),
            Outcome::Failed("b".to_owned()),
        ];
        let prefetched = outcomes.map(|outcome| {
            JobSaid::Prefetched(Prefetched { path: StorePathHash::from_bytes([7; 20]), outcome })
        });
        let progress = JobProgress { files: 1, bytes: 2, all_files: 3, all_bytes: 4 };
        let others = [
            JobSaid::Progress(progress),
            JobSaid::Narinfos(vec!["StorePath: /nix/store/x".to_owned()]),
            JobSaid::Ended(Ok(())),
            JobSaid::Ended(Err("the disk failed".to_owned())),
        ];
        for said in checked.into_iter().chain(prefetched).chain(others) {
            let sent = JobReport { id: 4, said };
            assert_eq!(report(report_wire(sent.clone())).expect("parses"), sent);
        }
    }
}
