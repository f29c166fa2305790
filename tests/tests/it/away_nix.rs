//! The real `nix` while control is away: what one that trusts our key alone sees then, and after, and one that trusts
//! the upstream's key beside it. So it stands in docs/OPERATIONS.md.

use ncps_proto::WhenAway;
use ncps_tests::{Nix, eventually};

use crate::away::{is_told, link, split};
use crate::scene::plain;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_trusts_our_key_alone_refuses_until_its_memory_is_over_and_who_trusts_both_notices_nothing() {
    let (Some(wary), Some(advised)) = (Nix::find(), Nix::find()) else { return };
    let (cluster, upstream, key) = split(WhenAway::UpstreamSigned).await;
    let fixture = plain(100_000).build(&key);
    upstream.add(&fixture);
    let (url, ours, path) = (cluster.url(), cluster.public_key().await, fixture.store_path());
    wary.trust(std::slice::from_ref(&ours));
    advised.trust(&[ours.clone(), key.public()]);

    link(&cluster).refuse().await;
    let complaint = wary.copy_from(&url, &[path]).await.failed();
    assert!(complaint.contains("lacks a valid signature"), "{complaint}");
    advised.copy_from(&url, &[path]).await.ok();
    advised.verify_own(path).await.ok();

    link(&cluster).mend().await;
    is_told(&cluster).await;
    let signed =
        async || cluster.narinfo(&fixture).await.signatures.iter().any(|s| s.key_name == ours.name());
    eventually("we serve it with our signature", signed).await;
    let complaint = wary.copy_from(&url, &[path]).await.failed();
    assert!(complaint.contains("lacks a valid signature"), "it remembers what it was told: {complaint}");
    wary.forget_narinfos();
    wary.copy_from(&url, &[path]).await.ok();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_to_come_again_has_nothing_to_forget() {
    let Some(nix) = Nix::find() else { return };
    let (cluster, upstream, key) = split(WhenAway::StoredOnly).await;
    let fixture = plain(100_000).build(&key);
    upstream.add(&fixture);
    nix.trust(&[cluster.public_key().await]);
    nix.set("download-attempts", 1);
    link(&cluster).refuse().await;
    let complaint = nix.copy_from(&cluster.url(), &[fixture.store_path()]).await.failed();
    assert!(complaint.contains("503"), "{complaint}");
    link(&cluster).mend().await;
    let back = async || cluster.get(&fixture.narinfo_path()).await.status == 200;
    eventually("control is back", back).await;
    nix.copy_from(&cluster.url(), &[fixture.store_path()]).await.ok();
    cluster.end().await;
}
