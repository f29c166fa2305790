//! What clients write: their narinfos come into the index, and what they delete leaves it. All of it has its row
//! when the call answers, since a client believes it.

use std::sync::Arc;
use std::time::Duration;

use ncps_nix::{MAX_NARINFO_BYTES, NarFileName, NarInfo, StorePathHash};
use ncps_proto::admin::{Caller, EventKind};
use ncps_proto::{
    ChangedBy, Code, Errand, Error, ObjectChange, ObjectNote, Result, Scope, Token, Upload, Victim, Writer,
    tokens,
};
use ncps_runtime::clock::UnixTime;
use ncps_runtime::fault::{self, Point};
use tokio::time::Instant;

use super::lost::{self, Back, Told};
use super::removal::take_narinfo_out;
use super::{Control, standing};
use crate::journal::{Audited, Note};
use crate::metrics::Published;
use crate::record::{facts_of, file_of, point_at};

/// How long after control's start edges may take to come back and say what they hold.
pub(super) const RETURN: Duration = Duration::from_secs(60);

/// Whether the NAR of an upload is there.
enum Rests {
    Here,
    /// Whoever may hold it has not been heard yet.
    Unknown,
    /// Whoever holds it was told to remove it.
    Going,
    Nowhere,
}

impl Control {
    pub(super) async fn take_upload(&self, upload: Upload) -> Result<NarInfo> {
        // Whoever brings it, it has to be vouched for.
        if !self.settings.get().writing.put {
            return Err(verb_off());
        }
        let (stored, audited) = self.put_upload(upload).await?;
        fault::point(Point::UploadPut);
        let paths = [stored.store_path.hash()];
        let told = async {
            // Nothing changed where there is nothing to be noted.
            if audited.is_some() {
                self.remover.outdate(&paths).await;
            }
        };
        // The client may ask any edge next.
        tokio::join!(self.settled(audited), told).0?;
        fault::point(Point::UploadWritten);
        Ok(stored)
    }

    async fn put_upload(&self, upload: Upload) -> Result<(NarInfo, Option<Audited>)> {
        let Upload { narinfo: offered, nar, held, writer } = upload;
        let token = self.token_of(&writer);
        let may_sign = token.as_ref().is_some_and(|token| self.allows(token, Scope::Sign, &writer));
        let admitted = self.policy.admit(offered, may_sign)?;
        self.index.admit().await?;
        let name = self.index.resolve(nar).await?;
        let file_turns = self.index.lock_files([nar, name]).await;
        self.not_leaving(&writer.instance, name)?;
        self.check_nar(&admitted, name, held, &writer).await?;
        if held {
            self.lies_at(&writer.instance, name).await?;
        }
        let hash = admitted.store_path.hash();
        let turn = self.index.lock_narinfos([hash]).await;
        let by = caller(token.as_ref());
        let stored = self.index.narinfo(hash).await?;
        let put = match &stored {
            Some(stored) => self.add_to(stored, admitted, name, &by).await?,
            None => self.put_first(admitted, name, &by).await?,
        };
        drop((turn, file_turns));
        let former = stored.map(|stored| file_of(&stored)).filter(|former| *former != name);
        self.weigh(former.into_iter().chain([name])).await;
        Ok(put)
    }

    /// What an edge was told to remove, and may not have removed yet, is nothing to promise.
    pub(super) fn not_leaving(&self, instance: &str, name: NarFileName) -> Result<()> {
        if self.sessions.is_leaving(instance, name) { Err(is_going(name)) } else { Ok(()) }
    }

    /// The NAR has to be there, and be what the narinfo says of it.
    async fn check_nar(
        &self,
        narinfo: &NarInfo,
        name: NarFileName,
        held: bool,
        writer: &Writer,
    ) -> Result<()> {
        let refused = |why: &str| {
            Err(Error::new(Code::Refused, format!("{why} of {}: {}", narinfo.store_path, name.url())))
        };
        match self.index.file(name).await? {
            Some(file) if file.contradicts(facts_of(narinfo)) => {
                refused("NarHash and NarSize are not those of the NAR")
            }
            Some(file) if !file.is_proven(facts_of(narinfo)) => refused("upload the NAR first"),
            Some(file) if file.is_irreplaceable() => match self.rests(name, held, writer) {
                Rests::Here => Ok(()),
                Rests::Unknown => Err(Error::new(
                    Code::Unavailable,
                    format!("control has just started, and the edge that holds {name} is not back yet"),
                )),
                Rests::Going => Err(is_going(name)),
                Rests::Nowhere => refused("upload the NAR first"),
            },
            Some(file) if held || !file.origins.is_empty() || self.sessions.is_held(name) => Ok(()),
            _ => refused("upload the NAR first"),
        }
    }

    /// The edge that passes a narinfo on says that the NAR is there. Its inventory may say so later only: without this, what
    /// was committed before the edge attached would be taken for lost with the next other copy.
    async fn lies_at(&self, instance: &str, name: NarFileName) -> Result<()> {
        let size = self.index.file(name).await?.and_then(|file| file.file_size).unwrap_or(0);
        let standing = standing::of(&self.index, name).await;
        self.sessions.announced(instance, name, size, standing, self.clock.now());
        Ok(())
    }

    /// Where an upload rests: only a disk that is kept counts.
    fn rests(&self, name: NarFileName, held: bool, writer: &Writer) -> Rests {
        match (held && self.sessions.keeps(&writer.instance)) || self.sessions.is_kept(name) {
            true => Rests::Here,
            false if self.sessions.is_about_to_go(name) => Rests::Going,
            false if self.started.elapsed() < RETURN => Rests::Unknown,
            false => Rests::Nowhere,
        }
    }

    /// Whether an upload may lie where it can't be had from now: at an edge that is believed to hold it, or, since a
    /// former process knew who that was, at one that keeps its disk and is away for less than an hour.
    pub(super) fn may_be_away(&self, name: NarFileName) -> bool {
        let may_come_back = self.started.elapsed() < RETURN;
        self.sessions.is_remembered(name) || may_come_back || self.is_keeper_away()
    }

    /// Whether an edge that keeps its disk is not attached, and was within the hour or may just not be back since the start.
    pub(super) fn is_keeper_away(&self) -> bool {
        let attached = self.sessions.named(None);
        let attached = attached.iter().map(|(name, _)| &**name).collect();
        let may_come_back = self.started.elapsed() < RETURN;
        self.roster.is_keeper_away(&attached, if may_come_back { UnixTime(0) } else { self.clock.now() })
    }

    async fn put_first(
        &self,
        mut narinfo: NarInfo,
        name: NarFileName,
        by: &Caller,
    ) -> Result<(NarInfo, Option<Audited>)> {
        self.name_file(&mut narinfo, name).await?;
        let audited = self.uploaded(by, &narinfo, "");
        self.index.put_new_narinfo(Arc::new(narinfo.clone()));
        self.metrics.publications.inc(Published::Stored);
        Ok((narinfo, Some(audited)))
    }

    /// Before the rows: no change is without its note.
    fn uploaded(&self, by: &Caller, narinfo: &NarInfo, how: &str) -> Audited {
        let note = Note::new(EventKind::Uploaded, format!("{}{how}", narinfo.store_path));
        self.journal.audit_with_rows(by, note.path(narinfo.store_path.hash()).nar(file_of(narinfo)))
    }

    /// What a client is told of is written, and who it was.
    async fn settled(&self, audited: Option<Audited>) -> Result<()> {
        self.index.durable().await?;
        match audited {
            Some(audited) => self.journal.written(audited).await,
            None => Ok(()),
        }
    }

    /// What is there stays, with the signatures that are new. Another NAR is never put in its place: clients have
    /// the narinfo of the one that is there.
    async fn add_to(
        &self,
        stored: &NarInfo,
        offered: NarInfo,
        name: NarFileName,
        by: &Caller,
    ) -> Result<(NarInfo, Option<Audited>)> {
        if stored.fingerprint() != offered.fingerprint() {
            let there = format!("{} is there with another NAR or other references", stored.store_path);
            return Err(Error::new(Code::Refused, format!("{there}: delete it first")));
        }
        let mut merged = stored.clone();
        for signature in offered.signatures {
            if !merged.signatures.contains(&signature) {
                merged.signatures.push(signature);
            }
        }
        // What upstreams have goes on to be theirs, as long as somebody has it here.
        if !self.sessions.is_held(file_of(stored)) {
            self.name_file(&mut merged, name).await?;
        }
        if merged == *stored {
            self.metrics.publications.inc(Published::Kept);
            return Ok((merged, None));
        }
        if merged.render().len() > MAX_NARINFO_BYTES {
            let path = &merged.store_path;
            return Err(Error::new(Code::Refused, format!("{path} has too many signatures")));
        }
        let audited = self.uploaded(by, &merged, " again, with more signatures or another file");
        self.index.put_narinfo(Arc::new(merged.clone()));
        self.metrics.publications.inc(Published::Replaced);
        Ok((merged, Some(audited)))
    }

    async fn name_file(&self, narinfo: &mut NarInfo, name: NarFileName) -> Result<()> {
        let file = self.index.file(name).await?;
        point_at(narinfo, name, file.and_then(|file| file.file_size));
        Ok(())
    }

    pub(super) async fn delete_path(&self, hash: StorePathHash, writer: &Writer) -> Result<bool> {
        self.may_write(Scope::Delete, writer)?;
        self.index.admit().await?;
        let turn = self.index.lock_narinfos([hash]).await;
        let Some(narinfo) = self.index.narinfo(hash).await? else { return Ok(false) };
        let named = file_of(&narinfo);
        let note = Note::new(EventKind::Deleted, format!("the narinfo of {}", narinfo.store_path));
        let by = caller(self.token_of(writer).as_ref());
        let audited = self.journal.audit_with_rows(&by, note.path(hash).nar(named));
        // For edges that are away, and for this one, should it be killed now.
        take_narinfo_out(&self.index, hash, &[named]);
        drop(turn);
        self.weigh([named]).await;
        let paths = [hash];
        tokio::join!(self.settled(Some(audited)), self.remover.drop_promptly(&paths, &[], None)).0?;
        fault::point(Point::NarinfoDeleted);
        Ok(true)
    }

    pub(super) async fn delete_file(&self, asked: NarFileName, writer: &Writer) -> Result<Vec<Victim>> {
        self.may_write(Scope::Delete, writer)?;
        self.index.admit().await?;
        let by = caller(self.token_of(writer).as_ref());
        let mut audited = None;
        let mut victims = Vec::new();
        for name in self.same_nar(asked).await? {
            let note = Note::new(EventKind::Deleted, format!("the NAR file {name}"));
            audited = Some(self.journal.audit_with_rows(&by, note.nar(name)));
            let naming = self.index.naming(name).await?;
            let narinfos = naming.iter().map(|narinfo| narinfo.store_path.hash()).collect();
            victims.push(Victim { name, narinfos });
            let why = Note::new(EventKind::Deleted, "with its NAR, an upload that nobody could give again");
            lost::give_up(self.told(), name, &why, Back::Dropped).await?;
        }
        // The caller removes them.
        victims.iter().for_each(|victim| self.sessions.lost(&writer.instance, victim.name));
        let paths: Vec<_> = victims.iter().flat_map(|victim| victim.narinfos.iter().copied()).collect();
        let files: Vec<_> = victims.iter().map(|victim| victim.name).collect();
        let gone = self.remover.drop_promptly(&paths, &files, Some(&writer.instance));
        tokio::join!(self.settled(audited), gone).0?;
        Ok(victims)
    }

    /// The file with the other ones of its NAR: those that an edge holds, or that nobody could give again.
    async fn same_nar(&self, asked: NarFileName) -> Result<Vec<NarFileName>> {
        let name = self.index.resolve(asked).await?;
        let Some(file) = self.index.file(name).await? else { return Ok(Vec::new()) };
        let mut files = match file.nar {
            Some(facts) => self.index.files_of(facts.hash).await?,
            None => vec![(name, file)],
        };
        files.retain(|(name, file)| self.sessions.is_held(*name) || file.is_irreplaceable());
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }

    /// Objects lie with the edge: there is nothing to know of them but who changed them.
    pub(super) async fn note_of_object(&self, note: ObjectNote) -> Result<()> {
        let ObjectNote { name, change, by } = note;
        let (note, errand) = match change {
            ObjectChange::Uploaded(bytes) => {
                let note = Note::new(EventKind::Uploaded, format!("{name}, {bytes} bytes"));
                (note, Errand::KeepObject(name))
            }
            ObjectChange::Deleted => {
                (Note::new(EventKind::Deleted, name.to_string()), Errand::DeleteObject(name))
            }
        };
        let by = match by {
            ChangedBy::Client(writer) => {
                self.may_write(errand.scope(), &writer)?;
                caller(self.token_of(&writer).as_ref())
            }
            ChangedBy::Errand(bearer) => self.warrants.lock().done(&bearer, &errand, Instant::now())?,
        };
        self.journal.written(self.journal.audit_with_rows(&by, note)).await
    }

    pub(super) fn told(&self) -> Told<'_> {
        Told { index: &self.index, sessions: &self.sessions, journal: &self.journal }
    }

    /// The token that a writer shows, if it is one of ours.
    pub(super) fn token_of(&self, writer: &Writer) -> Option<Token> {
        let secret = writer.secret.as_ref()?;
        tokens::find(&self.settings.get().tokens, secret.reveal().as_bytes()).cloned()
    }

    /// The edge has asked the same before; here nobody has to believe it. So no edge deletes what no client may.
    pub(super) fn may_write(&self, scope: Scope, Writer { instance, secret }: &Writer) -> Result<()> {
        let settings = self.settings.get();
        let writing = &settings.writing;
        let verb = if scope == Scope::Delete { writing.delete } else { writing.put };
        if !verb {
            return Err(verb_off());
        }
        let edge = self.sessions.name_of(instance).unwrap_or_default();
        let secret = secret.as_ref().map(|secret| secret.reveal().as_bytes());
        let now = self.clock.now().0;
        match tokens::permit(&settings.tokens, writing.require_token, scope, secret, &edge, now) {
            true => Ok(()),
            false => Err(Error::new(Code::Unauthenticated, "no token, or one that is not known")),
        }
    }

    /// An edge that is not attached has no name, and so nothing that is bound to one.
    fn allows(&self, token: &Token, scope: Scope, writer: &Writer) -> bool {
        let edge = self.sessions.name_of(&writer.instance).unwrap_or_default();
        token.allows(scope, &edge, self.clock.now().0)
    }
}

/// Whoever shows no token of ours is not known.
pub(super) fn caller(token: Option<&Token>) -> Caller {
    Caller { who: token.map_or_else(|| "anybody".to_owned(), |token| format!("token {}", token.id)) }
}

fn verb_off() -> Error {
    Error::new(Code::VerbOff, "clients may not do that here")
}

fn is_going(name: NarFileName) -> Error {
    Error::new(Code::Unavailable, format!("{name} is just being removed: try again"))
}
