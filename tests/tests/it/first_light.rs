//! The thinnest whole path: a narinfo and its NAR through edge, control and upstream, and again without it.

use ncps_nix::Compression;
use ncps_tests::{Cluster, Fixture, Upstream, UpstreamKey, both_modes};

both_modes! {
    async fn a_path_is_fetched_once_and_served_from_then_on(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").size(300_000).compression(Compression::Xz).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;

        let narinfo = cluster.narinfo(&fixture).await;
        assert_eq!(narinfo.signatures.len(), 2);
        let ours = cluster.public_key().await;
        assert!(ours.verify(&narinfo.fingerprint(), &narinfo.signatures[1]));
        let nar = cluster.get(&format!("/{}", narinfo.url)).await.whole().await;
        assert_eq!(nar, fixture.file.to_bytes());
        cluster.quiet().await;
        assert!(cluster.stores(&fixture.nar_path()));

        upstream.down().await;
        assert_eq!(cluster.narinfo(&fixture).await, narinfo);
        assert_eq!(cluster.get(&fixture.nar_path()).await.whole().await, nar);
        assert_eq!(upstream.count("GET", "/nar/"), 1);
        cluster.end().await;
    }
}
