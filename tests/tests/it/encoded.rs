//! An uncompressed NAR that lies here as zstd: who takes zstd gets that file as a content coding, who does not, or
//! asks for a range, gets the NAR as it is.

use ncps_nix::{Compression, Sha256Hash};
use ncps_tests::cluster::ClusterBuilder;
use ncps_tests::{
    Cluster, Fixture, Gate, Mode, Nix, Request, Rule, Upstream, UpstreamKey, both_modes, decode, patience,
};

use crate::asking::{Answer, ask, bodiless, get};

/// As Nix 2.14 and later send it with every request.
const NIX: &str = "zstd, br, gzip, deflate, bzip2, xz";

/// One NAR, which one path has as zstd and another one as it is.
struct Twins {
    cluster: Cluster,
    upstream: Upstream,
    key: UpstreamKey,
    zstd: Fixture,
    plain: Fixture,
}

impl Twins {
    /// The narinfos are known, and nothing is fetched.
    async fn new(mode: Mode) -> Twins {
        Twins::of(Cluster::builder(mode)).await
    }

    /// The same in a cluster to be.
    async fn of(cluster: ClusterBuilder) -> Twins {
        let key = UpstreamKey::new("upstream-1");
        let part =
            |compression| Fixture::new("twin-1.0").size(300_000).compressible().compression(compression);
        let elsewhere = Fixture::new("elsewhere-1.0").store_path();
        let (zstd, plain) =
            (part(Compression::Zstd).build(&key), part(Compression::None).at(elsewhere).build(&key));
        assert!(zstd.nar.to_bytes() == plain.file.to_bytes(), "the same NAR");
        let upstream = Upstream::with(&[&zstd, &plain]).await;
        let cluster = cluster.upstream(&upstream).trust(&key).start().await;
        cluster.narinfo(&zstd).await;
        cluster.narinfo(&plain).await;
        Twins { cluster, upstream, key, zstd, plain }
    }

    async fn with_zstd_stored(mode: Mode) -> Twins {
        let twins = Twins::new(mode).await;
        twins.store(&twins.zstd).await;
        twins
    }

    /// Fetches a file into the store.
    async fn store(&self, fixture: &Fixture) {
        assert!(get(&self.cluster, &fixture.nar_path()).await.body == fixture.file.to_bytes());
        self.cluster.quiet().await;
        assert!(self.cluster.stores(&fixture.nar_path()));
    }

    fn asking(&self, accepted: &str) -> Request {
        Request::get(&self.plain.nar_path()).header("Accept-Encoding", accepted)
    }

    async fn ask(&self, request: Request) -> Answer {
        ask(&self.cluster, request).await
    }

    fn assert_encoded(&self, told: &Answer) {
        assert_eq!((told.status, told.header("Content-Encoding")), (200, Some("zstd")));
        assert_eq!(told.headers.number("Content-Length"), Some(self.zstd.file.len()));
        assert_eq!(told.header("Content-Type"), Some("application/x-nix-nar"));
        assert_eq!(told.header("Vary"), Some("Accept-Encoding"));
        assert_eq!(told.header("Accept-Ranges"), None, "nobody can resume it");
    }

    fn assert_plain(&self, told: &Answer) {
        assert_eq!((told.status, told.header("Content-Encoding")), (200, None));
        assert_eq!(told.header("Accept-Ranges"), Some("bytes"));
        assert_eq!(told.header("Vary"), Some("Accept-Encoding"));
        assert!(told.body == self.plain.file.to_bytes());
    }
}

both_modes! {
    async fn who_takes_zstd_gets_the_stored_file(mode) {
        let twins = Twins::with_zstd_stored(mode).await;
        let told = twins.ask(twins.asking(NIX)).await;
        twins.assert_encoded(&told);
        assert!(told.body == twins.zstd.file.to_bytes());
        let nar = decode(Compression::Zstd, &told.body).expect("it decodes");
        assert_eq!(Sha256Hash::of(&nar), twins.plain.narinfo.nar_hash.0);

        let head = Request::head(&twins.plain.nar_path()).header("Accept-Encoding", NIX);
        assert_eq!(bodiless(&twins.cluster, head).await.comparable(), told.comparable());
        twins.cluster.quiet().await;
        assert_eq!(twins.cluster.stored_files().len(), 1, "nothing was decoded for it");
        assert_eq!(twins.upstream.count("GET", "/nar/"), 1, "nor fetched");

        // Nothing is in memory after a restart, but control knows.
        let Twins { cluster, upstream, key, zstd, plain } = twins;
        let cluster = cluster.restart(Cluster::builder(mode).upstream(&upstream).trust(&key)).await;
        let twins = Twins { cluster, upstream, key, zstd, plain };
        let again = twins.ask(twins.asking(NIX)).await;
        assert_eq!((again.comparable(), again.body), (told.comparable(), told.body));
        twins.cluster.end().await;
    }

    async fn its_etag_is_its_own(mode) {
        let twins = Twins::with_zstd_stored(mode).await;
        let etag = |told: &Answer| told.header("ETag").expect("an ETag").to_owned();
        let encoded = etag(&twins.ask(twins.asking(NIX)).await);
        let file = etag(&get(&twins.cluster, &twins.zstd.nar_path()).await);
        let identity = etag(&twins.ask(twins.asking("gzip")).await);
        twins.cluster.quiet().await;
        assert!(encoded != identity && encoded != file && identity != file);
        assert!(encoded.starts_with('"') && encoded.ends_with('"'), "strong: {encoded}");

        for (tag, told) in [(&encoded, &encoded), (&identity, &identity)] {
            let same = bodiless(&twins.cluster, twins.asking(NIX).header("If-None-Match", tag)).await;
            assert_eq!((same.status, same.header("ETag")), (304, Some(&**told)));
            assert_eq!(same.header("Vary"), Some("Accept-Encoding"));
        }
        let other = twins.ask(twins.asking(NIX).header("If-None-Match", &file)).await;
        twins.assert_encoded(&other);
        let plain = twins.ask(twins.asking("gzip").header("If-None-Match", &encoded)).await;
        twins.assert_plain(&plain);
        // It never joins bytes of the NAR as it is.
        let ranged = twins.asking(NIX).range("5-").header("If-Range", &encoded);
        twins.assert_plain(&twins.ask(ranged).await);
        twins.cluster.end().await;
    }

    async fn who_does_not_prefer_it_gets_the_nar_as_it_is(mode) {
        for refusal in ["", "gzip, br", "zstd;q=0", "ZSTD; Q=0.000, gzip", "*", "identity, zstd;q=0.5"] {
            let twins = Twins::with_zstd_stored(mode).await;
            twins.assert_plain(&twins.ask(twins.asking(refusal)).await);
            twins.assert_plain(&get(&twins.cluster, &twins.plain.nar_path()).await);
            twins.cluster.quiet().await;
            assert!(twins.cluster.stores(&twins.plain.nar_path()), "decoded from the store");
            assert_eq!(twins.upstream.count("GET", "/nar/"), 1);
            // Both files are here now.
            let told = twins.ask(twins.asking("gzip, zstd;q=0.3")).await;
            twins.assert_encoded(&told);
            twins.assert_plain(&twins.ask(twins.asking(refusal)).await);
            twins.cluster.end().await;
        }
    }

    async fn a_range_is_one_of_the_nar_as_it_is(mode) {
        let twins = Twins::with_zstd_stored(mode).await;
        for stored in [false, true] {
            let told = twins.ask(twins.asking(NIX).range("1000-1999")).await;
            assert_eq!((told.status, told.header("Content-Encoding")), (206, None), "stored: {stored}");
            assert!(told.body == twins.plain.file.to_bytes().slice(1000..2000), "stored: {stored}");
            let none = twins.ask(twins.asking(NIX).header("Range", "lines=1-2")).await;
            twins.assert_plain(&none);
            twins.cluster.quiet().await;
        }
        twins.cluster.end().await;
    }

    async fn while_a_transfer_runs_its_readers_share_it(mode) {
        let twins = Twins::new(mode).await;
        let gate = Gate::new();
        twins.upstream.script(Rule::on(&twins.plain.nar_path()).pause_at(100_000, &gate));
        let mut first = twins.cluster.get(&twins.plain.nar_path()).await;
        gate.reached().await;
        assert!(get(&twins.cluster, &twins.zstd.nar_path()).await.body == twins.zstd.file.to_bytes());
        let mut second = twins.cluster.send(twins.asking(NIX)).await;
        assert_eq!(second.header("Content-Encoding"), None);
        gate.open();
        assert!(first.whole().await == second.whole().await);
        twins.cluster.quiet().await;
        twins.assert_encoded(&twins.ask(twins.asking(NIX)).await);
        twins.cluster.end().await;
    }

    /// Nix 2.14 and later take it as zstd, earlier ones as it is.
    async fn a_real_nix_takes_it_either_way(mode) {
        let Some(nix) = Nix::find() else { return };
        let twins = Twins::with_zstd_stored(mode).await;
        nix.trust(&[twins.cluster.public_key().await]);
        nix.verify(&twins.cluster.url(), twins.plain.store_path()).await.ok();
        nix.copy_from(&twins.cluster.url(), &[twins.plain.store_path()]).await.ok();
        nix.verify_own(twins.plain.store_path()).await.ok();
        assert_eq!(twins.upstream.count("GET", "/nar/"), 1, "from the stored file, decoded there or here");
        twins.cluster.end().await;
    }

    async fn where_nothing_is_stored_it_is_fetched_as_it_is(mode) {
        let twins = Twins::new(mode).await;
        twins.assert_plain(&twins.ask(twins.asking(NIX)).await);
        twins.cluster.quiet().await;
        assert_eq!(twins.upstream.count("GET", &twins.plain.nar_path()), 1);
        twins.cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_nar_is_served_without_asking_control() {
    // An answer that waited for control would come too late for a client here.
    let twins = Twins::of(Cluster::builder(Mode::Split).control_deadline(10 * patience())).await;
    twins.store(&twins.plain).await;
    let link = twins.cluster.link.as_ref().expect("split");
    link.hang();
    twins.assert_plain(&twins.ask(twins.asking(NIX)).await);
    link.mend().await;
    twins.store(&twins.zstd).await;
    link.hang();
    twins.assert_encoded(&twins.ask(twins.asking(NIX)).await);
    link.mend().await;
    twins.cluster.end().await;
}
