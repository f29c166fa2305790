//! Bytes of one file from two sources, one of which lies: nobody gets a wrong body, and the next try finds out
//! who is right.

use ncps_nix::Compression;
use ncps_tests::{Cluster, Cut, Fixture, Outcome, Rule, Upstream, UpstreamKey, both_modes};

both_modes! {
    async fn a_liar_that_breaks_off_spoils_one_transfer_at_most(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("mixed").size(1_000_000).compression(Compression::None).build(&key);
        let (liar, honest) = (Upstream::with(&[&fixture]).await, Upstream::with(&[&fixture]).await);
        // Half of the file, one byte of it wrong, and never more than that.
        liar.script(Rule::on("/nar/*").ranged(false).flip(1000).cut_after(500_000, Cut::Fin));
        liar.script(Rule::on("/nar/*").ranged(true).status(500));
        let cluster = Cluster::builder(mode).upstream(&liar).upstream(&honest).trust(&key).start().await;
        cluster.narinfo(&fixture).await;

        let (_, first) = cluster.fetch(&fixture.nar_path()).await;
        assert!(matches!(first, Outcome::Truncated(_)), "wrong bytes never look complete");
        cluster.quiet().await;
        assert!(cluster.stored_files().is_empty());

        let (status, second) = cluster.fetch(&fixture.nar_path()).await;
        assert_eq!(status, 200);
        assert_eq!(second.whole(), fixture.file.to_bytes());
        cluster.quiet().await;
        assert!(cluster.stores(&fixture.nar_path()));
        cluster.end().await;
    }
}
