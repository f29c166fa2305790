//! The suite that every [`ControlPlane`] passes: the promises of the trait as tests. Call [`check`] with a
//! function that makes a fresh, empty plane configured as [`Setup`] says.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use ncps_nix::{
    Compression, FileHash, NarFileName, NarHash, NarInfo, ObjectName, PublicKey, SecretKey, Sha256Hash,
    StorePath,
};
use tokio::sync::mpsc;

use crate::{
    Accesses, Bearer, ChangedBy, Code, Commit, ControlPlane, Directive, Directives, DiskReport, EdgeReport,
    EdgeSettings, Errand, Heard, HeldNar, Hello, JobProgress, JobReport, JobSaid, Lookup, NarFacts,
    ObjectChange, ObjectNote, Origin, Publication, Recipe, Reports, Scope, Secret, Token, Turn, Upload,
    Victim, Warranted, Writer,
};

/// The upstream of every publication in the suite.
pub const UPSTREAM: &str = "http://upstream.test";

/// How the plane under test must be configured.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The one trusted upstream key.
    pub trusted: PublicKey,
    /// How long an absence is believed, jitter aside. Short, so that the suite can wait for its end.
    pub negative_ttl: Duration,
    /// The tokens. Uploads and deletions are allowed.
    pub tokens: Vec<Token>,
}

impl Setup {
    /// Puts into settings what the suite wants of them.
    pub fn configure(&self, settings: &mut EdgeSettings) {
        settings.trusted_keys = vec![self.trusted.clone()];
        settings.tokens.clone_from(&self.tokens);
        (settings.writing.put, settings.writing.delete) = (true, true);
    }
}

type Plane = Arc<dyn ControlPlane>;

struct Suite<F> {
    make: F,
    upstream_key: SecretKey,
}

/// Runs every case, each on a plane of its own.
///
/// # Panics
/// Where the plane breaks a promise.
pub async fn check<F, Fut>(make: F)
where
    F: Fn(Setup) -> Fut,
    Fut: Future<Output = Plane>,
{
    let upstream_key = SecretKey::generate("upstream-1").expect("randomness is there");
    let suite = Suite { make, upstream_key };
    suite.nothing_is_known_at_first().await;
    suite.a_publication_is_served_under_our_name().await;
    suite.the_first_publication_wins().await;
    suite.nothing_untrusted_is_published().await;
    suite.absence_is_believed_for_a_while().await;
    suite.an_absence_that_not_all_said_ends_when_they_are_back().await;
    suite.a_compressed_nar_without_file_hash_is_offered_uncompressed().await;
    suite.a_nar_that_is_known_compressed_is_known_uncompressed().await;
    suite.turns_exclude_and_end().await;
    suite.a_turn_goes_over_from_who_did_not_give_the_file().await;
    suite.a_commit_ends_the_turn_and_names_the_narinfos().await;
    suite.a_commit_of_an_unknown_name_makes_it_known().await;
    suite.a_wrong_file_hash_is_corrected().await;
    suite.what_was_made_takes_the_place_of_its_source().await;
    suite.a_doubted_narinfo_is_replaced_or_retracted().await;
    suite.an_upload_needs_somebody_who_vouches().await;
    suite.an_upload_needs_its_nar().await;
    suite.an_upload_again_adds_signatures_and_nothing_else().await;
    suite.what_is_deleted_is_forgotten_everywhere().await;
    suite.who_changes_objects_is_noted().await;
    suite.a_warrant_is_for_one_errand_of_one_edge_once().await;
    suite.attach_configures_and_invalidates().await;
    suite.a_session_that_ends_frees_its_turns().await;
    suite.attach_needs_a_hello().await;
}

impl<F, Fut> Suite<F>
where
    F: Fn(Setup) -> Fut,
    Fut: Future<Output = Plane>,
{
    async fn plane(&self) -> Plane {
        let trusted = self.upstream_key.public();
        let edge = |name: &str| vec![name.to_owned()];
        let tokens = vec![
            token("signs", &[Scope::Write, Scope::Delete, Scope::Sign], None, edge("edge-a")),
            token("writes", &[Scope::Write, Scope::Delete], None, Vec::new()),
            token("signed", &[Scope::Write, Scope::Sign], Some(1), Vec::new()),
            token("elsewhere", &[Scope::Write, Scope::Sign], None, edge("edge-b")),
        ];
        (self.make)(Setup { trusted, negative_ttl: Duration::from_millis(300), tokens }).await
    }

    /// An upstream's narinfo; `seed` tells paths apart.
    fn narinfo(&self, seed: u8) -> NarInfo {
        let hash = ncps_nix::nix32::encode(&[seed; 20]);
        let store_path = StorePath::parse(&format!("{hash}-path")).expect("a valid store path");
        let mut narinfo = NarInfo {
            store_path,
            url: format!("nar/opaque-{seed}?id=1"),
            compression: Compression::Xz,
            file_hash: Some(FileHash(Sha256Hash::of(&[seed, 1]))),
            file_size: Some(1000 + u64::from(seed)),
            nar_hash: NarHash(Sha256Hash::of(&[seed, 2])),
            nar_size: 5000,
            references: vec![],
            deriver: None,
            signatures: vec![],
            ca: None,
        };
        narinfo.signatures = vec![self.upstream_key.sign(&narinfo.fingerprint())];
        narinfo
    }

    async fn nothing_is_known_at_first(&self) {
        let plane = self.plane().await;
        let narinfo = self.narinfo(1);
        assert_eq!(plane.narinfo(narinfo.store_path.hash()).await.expect("answers"), Lookup::Unknown);
        assert_eq!(plane.locate("a", file(&narinfo)).await.expect("answers"), None);
    }

    async fn a_publication_is_served_under_our_name(&self) {
        let plane = self.plane().await;
        let theirs = self.narinfo(1);
        let ours = publish(&plane, &theirs).await;
        assert_eq!(ours.url, file(&theirs).url(), "our URL names the file by its hash");
        assert_eq!((ours.nar_hash, ours.nar_size), (theirs.nar_hash, theirs.nar_size));
        assert_eq!((ours.file_hash, ours.file_size), (theirs.file_hash, theirs.file_size));
        assert!(ours.signatures.contains(&theirs.signatures[0]), "the upstream's signature is kept");
        assert_eq!(ours.signatures.len(), 2, "our signature is added once");
        let known = plane.narinfo(theirs.store_path.hash()).await.expect("answers");
        let Lookup::Known(known) = known else { panic!("published, but {known:?}") };
        assert_eq!(known.render(), ours.render(), "one stored version");

        let location = plane.locate("a", file(&theirs)).await.expect("answers").expect("known now");
        assert_eq!(location.name, file(&theirs));
        assert_eq!(location.file_size, theirs.file_size);
        assert_eq!(location.nar, Some(facts(&theirs)));
        assert_eq!(location.origins, vec![origin(&theirs)]);
        assert_eq!(location.store_paths, vec![theirs.store_path.hash()]);
    }

    async fn the_first_publication_wins(&self) {
        let plane = self.plane().await;
        let first = publish(&plane, &self.narinfo(1)).await;
        let mut second = self.narinfo(1);
        second.file_hash = Some(FileHash(Sha256Hash::of(b"another compression run")));
        let answer = publish(&plane, &second).await;
        assert_eq!(answer.render(), first.render());
    }

    async fn nothing_untrusted_is_published(&self) {
        let plane = self.plane().await;
        let mut unsigned = self.narinfo(1);
        unsigned.signatures.clear();
        let mut forged = self.narinfo(1);
        forged.nar_size += 1;
        for bad in [unsigned, forged] {
            let hash = bad.store_path.hash();
            let publication = Publication { narinfo: bad, upstream: UPSTREAM.into(), replaces: false };
            let refused = plane.publish_narinfo(publication).await.expect_err("must be refused");
            assert_eq!(refused.code(), Code::Invalid, "{refused}");
            assert_eq!(plane.narinfo(hash).await.expect("answers"), Lookup::Unknown);
        }
    }

    async fn absence_is_believed_for_a_while(&self) {
        let plane = self.plane().await;
        let narinfo = self.narinfo(1);
        let hash = narinfo.store_path.hash();
        let (left, absent) = loop {
            let left = plane.publish_absent(hash, Heard::All).await.expect("answers");
            assert!(left > Duration::ZERO && left < Duration::from_secs(1), "{left:?}");
            let absent = plane.narinfo(hash).await.expect("answers");
            // Its time is short here, and may be over by now where the machine is busy.
            if absent != Lookup::Unknown {
                break (left, absent);
            }
        };
        assert!(matches!(absent, Lookup::Absent(l) if l <= left), "{absent:?}");
        while plane.narinfo(hash).await.expect("answers") != Lookup::Unknown {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        plane.publish_absent(hash, Heard::All).await.expect("answers");
        publish(&plane, &narinfo).await;
        assert_known(&plane, &narinfo, "a publication ends an absence").await;
        plane.publish_absent(hash, Heard::All).await.expect("answers");
        assert_known(&plane, &narinfo, "a known path stays known").await;
    }

    async fn an_absence_that_not_all_said_ends_when_they_are_back(&self) {
        let plane = self.plane().await;
        let mut a = attach(&plane, "a").await;
        let (all, some) = (self.narinfo(1).store_path.hash(), self.narinfo(2).store_path.hash());
        // Again and again, since the time of an absence is short here.
        loop {
            plane.publish_absent(all, Heard::All).await.expect("answers");
            plane.publish_absent(some, Heard::Some).await.expect("answers");
            a.say(EdgeReport::UpstreamBack);
            tokio::time::timeout(Duration::from_millis(10), a.directives.recv()).await.ok();
            let all = plane.narinfo(all).await.expect("answers");
            let some = plane.narinfo(some).await.expect("answers");
            if matches!((all, some), (Lookup::Absent(_), Lookup::Unknown)) {
                return;
            }
        }
    }

    async fn a_compressed_nar_without_file_hash_is_offered_uncompressed(&self) {
        let plane = self.plane().await;
        let mut theirs = self.narinfo(1);
        (theirs.file_hash, theirs.file_size) = (None, None);
        let ours = publish(&plane, &theirs).await;
        assert_eq!(ours.compression, Compression::None);
        assert_eq!(ours.file_hash, Some(FileHash(theirs.nar_hash.0)));
        assert_eq!(ours.file_size, Some(theirs.nar_size));
        let location = plane.locate("a", file(&ours)).await.expect("answers").expect("known now");
        assert_eq!(location.origins, vec![origin(&theirs)], "the origin keeps its compression");
    }

    async fn a_nar_that_is_known_compressed_is_known_uncompressed(&self) {
        let plane = self.plane().await;
        let ours = publish(&plane, &self.narinfo(1)).await;
        let decoded = NarFileName { hash: FileHash(ours.nar_hash.0), compression: Compression::None };
        let location = plane.locate("a", decoded).await.expect("answers").expect("its file can be decoded");
        assert_eq!((location.name, location.nar), (decoded, Some(facts(&ours))));
        assert_eq!(location.representations, vec![], "what a narinfo says of its file may be wrong");
        plane.commit_nar("a", commit(&ours)).await.expect("answers");
        let location = plane.locate("a", decoded).await.expect("answers").expect("it is known");
        assert_eq!(location.representations, vec![file(&ours)]);
        let other = NarFileName { compression: Compression::Zstd, ..decoded };
        assert_eq!(
            plane.locate("a", other).await.expect("answers"),
            None,
            "nothing is compressed to given bytes"
        );
    }

    async fn turns_exclude_and_end(&self) {
        let plane = self.plane().await;
        let (_a, _b) = (attach(&plane, "a").await, attach(&plane, "b").await);
        let name = file(&self.narinfo(1));
        assert!(is_ours(&plane.begin_fetch("a", name, &[]).await.expect("answers")));
        assert!(is_ours(&plane.begin_fetch("a", name, &[]).await.expect("answers")), "repeatable");
        let theirs = plane.begin_fetch("b", name, &[]).await.expect("answers");
        assert!(matches!(theirs, Turn::Theirs(_)), "{theirs:?}");
        plane.end_fetch("b", name).await.expect("answers");
        let theirs = plane.begin_fetch("b", name, &[]).await.expect("answers");
        assert!(matches!(theirs, Turn::Theirs(_)), "only the holder ends a turn");
        plane.end_fetch("a", name).await.expect("answers");
        assert!(is_ours(&plane.begin_fetch("b", name, &[]).await.expect("answers")));
    }

    async fn a_turn_goes_over_from_who_did_not_give_the_file(&self) {
        let plane = self.plane().await;
        let (_a, _b) = (attach(&plane, "a").await, attach(&plane, "b").await);
        let name = file(&self.narinfo(1));
        plane.begin_fetch("a", name, &[]).await.expect("answers");
        let Turn::Theirs(url) = plane.begin_fetch("b", name, &[]).await.expect("answers") else {
            panic!("it is a's turn");
        };
        let another = ["http://another.test".to_owned()];
        let theirs = plane.begin_fetch("b", name, &another).await.expect("answers");
        assert_eq!(theirs, Turn::Theirs(url.clone()), "that was another edge");
        let failed = [url.unwrap_or_default()];
        assert!(is_ours(&plane.begin_fetch("b", name, &failed).await.expect("answers")));
        let theirs = plane.begin_fetch("a", name, &[]).await.expect("answers");
        assert!(matches!(theirs, Turn::Theirs(_)), "{theirs:?}");
    }

    async fn a_commit_ends_the_turn_and_names_the_narinfos(&self) {
        let plane = self.plane().await;
        let (_a, _b) = (attach(&plane, "a").await, attach(&plane, "b").await);
        let ours = publish(&plane, &self.narinfo(1)).await;
        let name = file(&ours);
        plane.begin_fetch("a", name, &[]).await.expect("answers");
        let narinfos = plane.commit_nar("a", commit(&ours)).await.expect("answers");
        assert_eq!(rendered(&narinfos), vec![ours.render()]);
        assert!(is_ours(&plane.begin_fetch("b", name, &[]).await.expect("answers")));
        let again = plane.commit_nar("a", commit(&ours)).await.expect("repeatable");
        assert_eq!(rendered(&again), vec![ours.render()]);
    }

    async fn a_commit_of_an_unknown_name_makes_it_known(&self) {
        let plane = self.plane().await;
        let narinfo = self.narinfo(9);
        let narinfos = plane.commit_nar("a", commit(&narinfo)).await.expect("answers");
        assert!(narinfos.is_empty(), "no narinfo names it");
        let location = plane.locate("a", file(&narinfo)).await.expect("answers").expect("known now");
        assert_eq!(location.file_size, narinfo.file_size);
        assert_eq!(location.nar, Some(facts(&narinfo)));
        assert_eq!(location.origins, vec![origin(&narinfo)]);
    }

    async fn a_wrong_file_hash_is_corrected(&self) {
        let plane = self.plane().await;
        let mut a = attach(&plane, "a").await;
        let ours = publish(&plane, &self.narinfo(1)).await;
        let wrong = file(&ours);
        let name = NarFileName { hash: FileHash(Sha256Hash::of(b"true bytes")), ..wrong };
        let commit = Commit { name, asked_as: Some(wrong), file_size: 77, ..commit(&ours) };
        let narinfos = plane.commit_nar("a", commit).await.expect("answers");
        assert_eq!(narinfos.len(), 1);
        assert_eq!((file(&narinfos[0]), narinfos[0].file_size), (name, Some(77)));
        assert_eq!(narinfos[0].signatures, ours.signatures, "the file hash is not signed");
        assert_eq!(narinfos[0].url, name.url());
        let location = plane.locate("a", wrong).await.expect("answers").expect("the old name is an alias");
        assert_eq!(location.name, name);
        a.invalidated(&ours).await;
    }

    async fn what_was_made_takes_the_place_of_its_source(&self) {
        let plane = self.plane().await;
        let mut a = attach(&plane, "a").await;
        let ours = publish(&plane, &self.narinfo(1)).await;
        let source = file(&ours);
        let name = NarFileName { hash: FileHash(Sha256Hash::of(b"made")), compression: Compression::Zstd };
        let recipe = Recipe { source, level: 6, encoder: "zstd-1".to_owned() };
        let made =
            Commit { name, file_size: 77, origin: None, recipe: Some(recipe.clone()), ..commit(&ours) };
        let early = plane.commit_nar("a", made.clone()).await;
        assert_eq!(early.map_err(|e| e.code()), Err(Code::Refused), "nobody proved what it was made of");
        plane.commit_nar("a", commit(&ours)).await.expect("proven");
        for _ in 0..2 {
            let narinfos = plane.commit_nar("a", made.clone()).await.expect("said twice it is no other");
            assert_eq!(narinfos.len(), 1);
            assert_eq!((file(&narinfos[0]), narinfos[0].file_size), (name, Some(77)));
            assert_eq!(narinfos[0].compression, Compression::Zstd);
            assert_eq!(narinfos[0].signatures, ours.signatures, "the file is not signed");
        }
        a.invalidated(&ours).await;
        let location = plane.locate("a", name).await.expect("answers").expect("known");
        assert_eq!(location.recipe, Some(recipe));
        assert_eq!((location.nar, location.representations), (Some(facts(&ours)), vec![source]));
        let former = plane.locate("a", source).await.expect("answers").expect("known by its own name, too");
        assert_eq!((former.name, former.store_paths), (source, Vec::new()));
        assert!(!former.origins.is_empty(), "where it can be fetched is not forgotten");
        let other = self.narinfo(2);
        plane.commit_nar("a", commit(&other)).await.expect("proven");
        let recipe = Some(Recipe { source: file(&other), level: 6, encoder: "zstd-1".to_owned() });
        let name = NarFileName { hash: FileHash(Sha256Hash::of(b"other")), ..name };
        let of_nothing = Commit { name, recipe, origin: None, ..commit(&other) };
        let refused = plane.commit_nar("a", of_nothing).await;
        assert_eq!(refused.map_err(|e| e.code()), Err(Code::Refused), "no narinfo would name it");
    }

    async fn a_doubted_narinfo_is_replaced_or_retracted(&self) {
        let plane = self.plane().await;
        let mut a = attach(&plane, "a").await;
        let first = publish(&plane, &self.narinfo(1)).await;
        let mut second = self.narinfo(1);
        second.nar_hash = NarHash(Sha256Hash::of(b"rebuilt"));
        second.file_hash = Some(FileHash(Sha256Hash::of(b"rebuilt, compressed")));
        second.signatures = vec![self.upstream_key.sign(&second.fingerprint())];
        let publication = Publication { narinfo: second.clone(), upstream: UPSTREAM.into(), replaces: true };
        let replaced = plane.publish_narinfo(publication).await.expect("trusted");
        assert_eq!(replaced.nar_hash, second.nar_hash);
        a.invalidated(&first).await;

        let hash = first.store_path.hash();
        plane.retract_narinfo(hash, file(&first)).await.expect("answers");
        assert_known(&plane, &second, "it names another file now").await;
        plane.retract_narinfo(hash, file(&replaced)).await.expect("answers");
        a.invalidated(&first).await;
        let answer = plane.narinfo(hash).await.expect("answers");
        assert!(!matches!(answer, Lookup::Known(_)), "{answer:?}");
    }

    /// An upload of this narinfo by who knows `secret`, and its NAR before it.
    async fn upload(&self, plane: &Plane, narinfo: &NarInfo, secret: Option<&str>) -> crate::Result<NarInfo> {
        plane.commit_nar("a", uploaded(narinfo)).await.expect("answers");
        plane.publish_upload(upload(narinfo, secret)).await
    }

    async fn an_upload_needs_somebody_who_vouches(&self) {
        let plane = self.plane().await;
        let _a = attach(&plane, "a").await;
        let stranger = SecretKey::generate("upstream-1").expect("randomness is there");
        let (signed, mut unsigned) = (self.narinfo(1), self.narinfo(2));
        unsigned.signatures.clear();
        let mut forged = unsigned.clone();
        forged.signatures = vec![stranger.sign(&forged.fingerprint())];
        for secret in [None, Some("guess"), Some("writes"), Some("signed"), Some("elsewhere")] {
            for narinfo in [&unsigned, &forged] {
                let refused = self.upload(&plane, narinfo, secret).await.expect_err("nobody vouches for it");
                assert_eq!(refused.code(), Code::Refused, "{secret:?}: {refused}");
                let known = plane.narinfo(narinfo.store_path.hash()).await.expect("answers");
                assert_eq!(known, Lookup::Unknown, "{secret:?}");
            }
        }
        for (narinfo, secret) in [(signed, None), (unsigned, Some("signs"))] {
            plane.publish_absent(narinfo.store_path.hash(), Heard::All).await.expect("answers");
            let stored = self.upload(&plane, &narinfo, secret).await.expect("admitted");
            assert_eq!(stored.signatures.len(), narinfo.signatures.len() + 1, "ours is among them");
            assert_eq!(stored.url, file(&narinfo).url());
            assert_known(&plane, &narinfo, "an upload ends an absence").await;
        }
        let other_edge = Upload {
            writer: Writer { instance: "b".to_owned(), secret: Some(Secret::new("signs".to_owned())) },
            ..upload(&forged_as(&forged, 3), None)
        };
        plane.commit_nar("a", uploaded(&other_edge.narinfo)).await.expect("answers");
        let refused = plane.publish_upload(other_edge).await.expect_err("the token is for another edge");
        assert_eq!(refused.code(), Code::Refused);
    }

    async fn an_upload_needs_its_nar(&self) {
        let plane = self.plane().await;
        let _a = attach(&plane, "a").await;
        let narinfo = self.narinfo(1);
        let refused = plane.publish_upload(upload(&narinfo, None)).await.expect_err("it is nowhere");
        assert_eq!(refused.code(), Code::Refused);
        let mut other = uploaded(&narinfo);
        other.nar.hash = NarHash(Sha256Hash::of(b"another NAR"));
        plane.commit_nar("a", other).await.expect("answers");
        let refused = plane.publish_upload(upload(&narinfo, None)).await.expect_err("it is another");
        assert_eq!(refused.code(), Code::Refused);
        assert_eq!(plane.narinfo(narinfo.store_path.hash()).await.expect("answers"), Lookup::Unknown);
    }

    async fn an_upload_again_adds_signatures_and_nothing_else(&self) {
        let plane = self.plane().await;
        let mut a = attach(&plane, "a").await;
        let narinfo = self.narinfo(1);
        let first = self.upload(&plane, &narinfo, None).await.expect("admitted");
        let again = self.upload(&plane, &narinfo, None).await.expect("admitted");
        assert_eq!(again.render(), first.render());
        let mut signed = narinfo.clone();
        let another = SecretKey::generate("another-1").expect("randomness is there");
        signed.signatures.push(another.sign(&signed.fingerprint()));
        let more = self.upload(&plane, &signed, None).await.expect("admitted");
        assert_eq!(more.signatures.len(), first.signatures.len() + 1);
        a.invalidated(&first).await;

        let mut rebuilt = self.narinfo(1);
        rebuilt.nar_hash = NarHash(Sha256Hash::of(b"rebuilt"));
        rebuilt.file_hash = Some(FileHash(Sha256Hash::of(b"rebuilt, compressed")));
        rebuilt.signatures = vec![self.upstream_key.sign(&rebuilt.fingerprint())];
        let refused = self.upload(&plane, &rebuilt, None).await.expect_err("another NAR is there");
        assert_eq!(refused.code(), Code::Refused);
        assert_known(&plane, &narinfo, "nothing is replaced").await;
    }

    async fn what_is_deleted_is_forgotten_everywhere(&self) {
        let plane = self.plane().await;
        let mut a = attach(&plane, "a").await;
        let (narinfo, writer) = (self.narinfo(1), || writer(Some("signs")));
        let hash = narinfo.store_path.hash();
        assert!(!plane.delete_narinfo(hash, writer()).await.expect("answers"), "it is not known");
        let stored = self.upload(&plane, &narinfo, None).await.expect("admitted");
        a.invalidated(&stored).await;
        assert!(plane.delete_narinfo(hash, writer()).await.expect("answers"));
        a.invalidated(&stored).await;
        assert_eq!(plane.narinfo(hash).await.expect("answers"), Lookup::Unknown, "upstreams may have it");

        let stored = self.upload(&plane, &narinfo, None).await.expect("admitted");
        a.invalidated(&stored).await;
        let victims = plane.delete_nar(file(&stored), writer()).await.expect("answers");
        assert_eq!(victims, [Victim { name: file(&stored), narinfos: vec![hash] }]);
        a.invalidated(&stored).await;
        let known = plane.narinfo(hash).await.expect("answers");
        assert!(!matches!(known, Lookup::Known(_)), "nobody can give its NAR again: {known:?}");
        assert_eq!(plane.delete_nar(file(&stored), writer()).await.expect("answers"), [], "it is gone");
    }

    /// Whether it is kept nobody asks over this trait; that it is taken, and again, an edge relies on.
    async fn who_changes_objects_is_noted(&self) {
        let plane = self.plane().await;
        let name = ObjectName::Listing(self.narinfo(1).store_path.hash());
        for change in [ObjectChange::Uploaded(7), ObjectChange::Uploaded(7), ObjectChange::Deleted] {
            let by = ChangedBy::Client(writer(Some("writes")));
            plane.note_object(ObjectNote { name: name.clone(), change, by }).await.expect("noted");
        }
    }

    async fn a_warrant_is_for_one_errand_of_one_edge_once(&self) {
        let plane = self.plane().await;
        let _a = attach(&plane, "a").await;
        let _b = attach_as(&plane, Hello { url: Some("http://b.test".to_owned()), ..an_edge("b") }).await;
        let [name, other] = [1, 2].map(|seed| ObjectName::Listing(self.narinfo(seed).store_path.hash()));
        for (keeps, change, errand) in [
            (true, ObjectChange::Uploaded(7), Errand::KeepObject as fn(_) -> _),
            (false, ObjectChange::Deleted, Errand::DeleteObject),
        ] {
            let guess = plane.warrant(errand(name.clone()), writer(Some("guess"))).await;
            assert_eq!(guess.map_err(|error| error.code()), Err(Code::Unauthenticated));
            let warrants =
                plane.warrant(errand(name.clone()), writer(Some("writes"))).await.expect("allowed");
            let [Warranted { url, warrant }] = &warrants.edges[..] else { panic!("one edge: {warrants:?}") };
            assert_eq!((&**url, warrants.known), ("http://b.test", true));
            let bearer = |instance: &str| Bearer { instance: instance.to_owned(), warrant: warrant.clone() };
            let note = |bearer, name: &ObjectName, change| {
                let by = ChangedBy::Errand(bearer);
                plane.note_object(ObjectNote { name: name.clone(), change, by })
            };
            note(bearer("b"), &name, change).await.expect_err("it was not redeemed");
            let another = if keeps { Errand::DeleteObject } else { Errand::KeepObject };
            for wrong in
                [errand(other.clone()), another(name.clone()), Errand::KeepNar(file(&self.narinfo(1)))]
            {
                let refused = plane.redeem(bearer("b"), wrong).await.expect_err("it is for another errand");
                assert_eq!(refused.code(), Code::Unauthenticated);
            }
            plane.redeem(bearer("a"), errand(name.clone())).await.expect_err("it is for another edge");
            plane.redeem(bearer("b"), errand(name.clone())).await.expect("it is for this");
            plane.redeem(bearer("b"), errand(name.clone())).await.expect_err("it was redeemed");
            note(bearer("b"), &other, change).await.expect_err("it is for another object");
            note(bearer("b"), &name, change).await.expect("noted");
            note(bearer("b"), &name, change).await.expect_err("it was used");
        }
    }

    async fn attach_configures_and_invalidates(&self) {
        let plane = self.plane().await;
        let mut a = attach(&plane, "a").await;
        assert_eq!(a.settings.trusted_keys, vec![self.upstream_key.public()]);
        assert!(!a.settings.public_keys.is_empty());
        let narinfo = self.narinfo(1);
        let held = HeldNar { name: file(&narinfo), file_size: 1, disk_bytes: 4096 };
        a.say(EdgeReport::Inventory { held: vec![held], last: true });
        a.say(EdgeReport::Committed(held));
        let accesses =
            Accesses { narinfos: vec![(narinfo.store_path.hash(), 2)], nars: vec![(held.name, 3)] };
        a.say(EdgeReport::Accesses(accesses));
        let disk = DiskReport { number: 1, total: 1 << 40, free: 1 << 39, used: 4096, wanted: 0 };
        a.say(EdgeReport::Disk(disk));
        a.say(EdgeReport::Evicted { number: 0, gone: vec![held.name] });
        // Of a job that nobody gave.
        for said in [JobSaid::Progress(JobProgress::default()), JobSaid::Ended(Err("why".to_owned()))] {
            a.say(EdgeReport::Job(JobReport { id: 1 << 60, said }));
        }
        let ours = publish(&plane, &narinfo).await;
        plane.retract_narinfo(narinfo.store_path.hash(), file(&ours)).await.expect("answers");
        a.invalidated(&ours).await;
    }

    async fn a_session_that_ends_frees_its_turns(&self) {
        let plane = self.plane().await;
        let (a, _b) = (attach(&plane, "a").await, attach(&plane, "b").await);
        let name = file(&self.narinfo(1));
        assert!(is_ours(&plane.begin_fetch("a", name, &[]).await.expect("answers")));
        a.hang_up().await;
        while !is_ours(&plane.begin_fetch("b", name, &[]).await.expect("answers")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn attach_needs_a_hello(&self) {
        let plane = self.plane().await;
        let reports = futures::stream::iter([EdgeReport::Accesses(Accesses::default()).into()]).boxed();
        match plane.attach(reports).await {
            Err(error) => assert_eq!(error.code(), Code::Invalid),
            Ok(mut directives) => {
                let first = directives.next().await;
                assert!(!matches!(first, Some(Ok(_))), "no hello, but {first:?}");
            }
        }
    }
}

/// An attached edge of the suite.
struct Session {
    settings: crate::EdgeSettings,
    reports: mpsc::UnboundedSender<EdgeReport>,
    directives: mpsc::UnboundedReceiver<crate::Result<crate::Told>>,
}

/// What an edge is told, and its answers to what control waits for.
fn answering(
    mut directives: Directives,
    reports: mpsc::WeakUnboundedSender<EdgeReport>,
) -> mpsc::UnboundedReceiver<crate::Result<crate::Told>> {
    let (told, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(directive) = directives.next().await {
            let number = match directive.as_ref().map(|told| &told.directive) {
                Ok(Directive::Outdate(outdating)) => Some(outdating.number),
                Ok(Directive::Remove(removal)) => Some(removal.number),
                _ => None,
            };
            if let (Some(number), Some(reports)) = (number, reports.upgrade()) {
                reports.send(EdgeReport::Evicted { number, gone: Vec::new() }).ok();
            }
            told.send(directive).ok();
        }
    });
    heard
}

impl Session {
    fn say(&self, report: EdgeReport) {
        self.reports.send(report).expect("the session lives");
    }

    /// Waits for the invalidation of a narinfo.
    async fn invalidated(&mut self, narinfo: &NarInfo) {
        loop {
            match self.directives.recv().await.expect("the session lives").expect("no break").directive {
                Directive::Invalidate(hashes) if hashes.contains(&narinfo.store_path.hash()) => return,
                Directive::Outdate(told) if told.store_paths.contains(&narinfo.store_path.hash()) => return,
                Directive::Remove(told) if told.store_paths.contains(&narinfo.store_path.hash()) => return,
                _ => {}
            }
        }
    }

    /// Ends the report stream and waits for control's end.
    async fn hang_up(self) {
        let Session { reports, mut directives, .. } = self;
        drop(reports);
        while let Ok(Some(Ok(_))) = tokio::time::timeout(Duration::from_secs(5), directives.recv()).await {}
    }
}

async fn attach(plane: &Plane, instance: &str) -> Session {
    attach_as(plane, an_edge(instance)).await
}

fn an_edge(instance: &str) -> Hello {
    Hello { durable: true, ..Hello::new(format!("edge-{instance}"), instance) }
}

async fn attach_as(plane: &Plane, hello: Hello) -> Session {
    let (reports, rx) = mpsc::unbounded_channel();
    reports.send(EdgeReport::Hello(hello)).expect("the receiver is here");
    let mut directives = plane.attach(stream_of(rx)).await.expect("attached");
    match directives.next().await.expect("a directive").expect("no break").directive {
        Directive::Configure(settings) => {
            let directives = answering(directives, reports.downgrade());
            Session { settings: *settings, reports, directives }
        }
        other => panic!("the first directive must configure, not {other:?}"),
    }
}

fn stream_of(rx: mpsc::UnboundedReceiver<EdgeReport>) -> Reports {
    futures::stream::unfold(rx, |mut rx| async move { Some((rx.recv().await?.into(), rx)) }).boxed()
}

async fn publish(plane: &Plane, narinfo: &NarInfo) -> NarInfo {
    let publication = Publication { narinfo: narinfo.clone(), upstream: UPSTREAM.into(), replaces: false };
    plane.publish_narinfo(publication).await.expect("trusted")
}

async fn assert_known(plane: &Plane, narinfo: &NarInfo, why: &str) {
    let answer = plane.narinfo(narinfo.store_path.hash()).await.expect("answers");
    assert!(matches!(&answer, Lookup::Known(n) if n.nar_hash == narinfo.nar_hash), "{why}: {answer:?}");
}

fn is_ours(turn: &Turn) -> bool {
    matches!(turn, Turn::Yours(_))
}

fn file(narinfo: &NarInfo) -> NarFileName {
    let hash = narinfo.file_hash.expect("the suite's narinfos have one");
    NarFileName { hash, compression: narinfo.compression }
}

fn facts(narinfo: &NarInfo) -> NarFacts {
    NarFacts { hash: narinfo.nar_hash, size: narinfo.nar_size }
}

fn origin(narinfo: &NarInfo) -> Origin {
    Origin { upstream: UPSTREAM.into(), url: narinfo.url.clone(), compression: narinfo.compression }
}

fn commit(narinfo: &NarInfo) -> Commit {
    Commit {
        name: file(narinfo),
        asked_as: None,
        file_size: narinfo.file_size.expect("the suite's narinfos have one"),
        nar: facts(narinfo),
        origin: Some(origin(narinfo)),
        uploaded: false,
        recipe: None,
        meanwhile: Vec::new(),
    }
}

fn uploaded(narinfo: &NarInfo) -> Commit {
    Commit { origin: None, uploaded: true, ..commit(narinfo) }
}

fn upload(narinfo: &NarInfo, secret: Option<&str>) -> Upload {
    Upload { narinfo: narinfo.clone(), nar: file(narinfo), held: true, writer: writer(secret) }
}

fn writer(secret: Option<&str>) -> Writer {
    Writer { instance: "a".to_owned(), secret: secret.map(|secret| Secret::new(secret.to_owned())) }
}

/// The same with a file of its own.
fn forged_as(narinfo: &NarInfo, seed: u8) -> NarInfo {
    NarInfo { file_hash: Some(FileHash(Sha256Hash::of(&[seed, 1]))), ..narinfo.clone() }
}

fn token(secret: &str, scopes: &[Scope], expires_at: Option<i64>, edges: Vec<String>) -> Token {
    let hash = Sha256Hash::of(secret.as_bytes());
    Token { id: secret.to_owned(), hash, scopes: scopes.to_vec(), expires_at, edges }
}

fn rendered(narinfos: &[NarInfo]) -> Vec<String> {
    narinfos.iter().map(NarInfo::render).collect()
}
