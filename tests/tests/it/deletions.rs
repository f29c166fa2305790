//! What clients delete over HTTP, who did it, and what becomes of it where control or an edge is away.

use ncps_nix::{Compression, NarFileName};
use ncps_proto::{ControlPlane, Secret, Writer};
use ncps_tests::{Cluster, Fixture, Mode, Request, both_modes, eventually};

use crate::asking::{ask, get};
use crate::cli::cli;
use crate::uploads::{SIGNER, closed, fixture, is_not_there, is_served, large, put, upload};

fn delete(path: &str) -> Request {
    Request::delete(path).header("Authorization", SIGNER)
}

/// Who did what, by the audit log.
async fn audited(cluster: &Cluster) -> Vec<(String, String, String)> {
    let lines = cli(cluster).flag("--output=json").ok(&["events", "--audit"]).await;
    let event = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).expect("an event a line");
        let text = |field: &str| event[field].as_str().expect("a text").to_owned();
        (text("actor"), text("kind"), text("detail"))
    };
    lines.lines().map(event).collect()
}

fn narinfo_file(cluster: &Cluster, fixture: &Fixture) -> std::path::PathBuf {
    cluster.store_dir().join(fixture.narinfo_path().trim_start_matches('/'))
}

/// The paths of its listing and of a log.
fn objects_of(fixture: &Fixture) -> (String, String) {
    let path = fixture.store_path();
    (format!("/{}.ls", path.hash()), format!("/log/{path}.drv"))
}

fn file_of(fixture: &Fixture) -> NarFileName {
    let name = fixture.nar_path();
    NarFileName::parse(name.strip_prefix("/nar/").expect("a NAR's path")).expect("a name")
}

both_modes! {
    async fn who_uploads_and_deletes_is_in_the_audit_log(mode) {
        let cluster = closed(mode).start().await;
        let fixture = fixture(Compression::Xz);
        upload(&cluster, "", &fixture).await;
        upload(&cluster, "/upload", &fixture).await;
        assert_eq!(ask(&cluster, delete(&fixture.narinfo_path())).await.status, 204);
        assert_eq!(ask(&cluster, delete(&fixture.narinfo_path())).await.status, 404);
        assert_eq!(ask(&cluster, delete(&fixture.nar_path())).await.status, 204);
        let events = audited(&cluster).await;
        let told: Vec<_> = events.iter().map(|(who, kind, _)| (who.as_str(), kind.as_str())).collect();
        let signer = "token signer";
        assert_eq!(told, [(signer, "uploaded"), (signer, "deleted"), (signer, "deleted")], "{events:?}");
        let (path, nar) = (fixture.store_path().to_string(), file_of(&fixture).to_string());
        assert!(events[0].2.contains(&path) && events[1].2.contains(&path) && events[2].2.contains(&nar), "{events:?}");
        assert!(!format!("{events:?}").contains("Bearer"));
        cluster.end().await;
    }

    async fn who_uploads_and_deletes_objects_is_there_too(mode) {
        let cluster = closed(mode).start().await;
        let fixture = fixture(Compression::Xz);
        let (listing, log) = objects_of(&fixture);
        for (path, body) in [(&listing, "{}"), (&listing, "{} "), (&log, "built")] {
            assert_eq!(ask(&cluster, put(path, body)).await.status, 204, "{path}");
        }
        assert_eq!(ask(&cluster, put(&listing, "no JSON")).await.status, 400);
        assert_eq!(ask(&cluster, delete(&log)).await.status, 204);
        assert_eq!(ask(&cluster, delete(&log)).await.status, 404);
        let (listing, log) = (listing.trim_start_matches('/'), log.trim_start_matches('/'));
        let expected = [
            ("uploaded", format!("{listing}, 2 bytes")),
            ("uploaded", format!("{listing}, 3 bytes")),
            ("uploaded", format!("{log}, 5 bytes")),
            ("deleted", log.to_owned()),
        ];
        let expected = expected.map(|(kind, detail)| ("token signer".to_owned(), kind.to_owned(), detail));
        assert_eq!(audited(&cluster).await, expected);
        cluster.end().await;
    }

    async fn where_anybody_may_it_is_anybody(mode) {
        let builder = Cluster::builder(mode).writable().admission(|admission| admission.anything = true);
        let cluster = builder.start().await;
        let fixture = fixture(Compression::Zstd);
        upload(&cluster, "", &fixture).await;
        let events = audited(&cluster).await;
        assert_eq!((events.len(), events[0].0.as_str(), events[0].1.as_str()), (1, "anybody", "uploaded"));
        cluster.end().await;
    }

    async fn a_deleted_narinfo_leaves_its_nar(mode) {
        for door in ["", "/upload"] {
            let cluster = closed(mode).start().await;
            let fixture = large();
            upload(&cluster, "", &fixture).await;
            assert_eq!(ask(&cluster, delete(&format!("{door}{}", fixture.narinfo_path()))).await.status, 204);
            assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404);
            assert!(cluster.stores(&fixture.nar_path()) && !narinfo_file(&cluster, &fixture).exists());
            assert!(get(&cluster, &fixture.nar_path()).await.body == fixture.file.to_bytes());
            let again = put(&fixture.narinfo_path(), fixture.narinfo_text());
            assert_eq!(ask(&cluster, again).await.status, 204);
            is_served(&cluster, &fixture).await;
            cluster.end().await;
        }
    }

    async fn a_deleted_nar_takes_the_path_with_it(mode) {
        for door in ["", "/upload"] {
            let cluster = closed(mode).start().await;
            let (fixture, other) = (fixture(Compression::Zstd), large());
            upload(&cluster, "", &fixture).await;
            upload(&cluster, "", &other).await;
            let path = format!("{door}{}", other.nar_path());
            assert_eq!(ask(&cluster, delete(&path)).await.status, 204);
            assert_eq!(ask(&cluster, delete(&path)).await.status, 404, "it is gone");
            assert!(!cluster.stores(&other.nar_path()) && !narinfo_file(&cluster, &other).exists());
            is_served(&cluster, &fixture).await;
            assert_eq!(ask(&cluster, delete(&fixture.nar_path())).await.status, 204);
            is_not_there(&cluster, &fixture).await;
            is_not_there(&cluster, &other).await;
            upload(&cluster, door, &other).await;
            is_served(&cluster, &other).await;
            let cluster = cluster.restart(closed(mode)).await;
            is_served(&cluster, &other).await;
            assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404);
            cluster.end().await;
        }
    }

    async fn a_deleted_object_is_gone(mode) {
        let cluster = closed(mode).start().await;
        for door in ["", "/upload"] {
            let log = format!("/log/{}.drv", large().store_path());
            assert_eq!(ask(&cluster, put(&log, "a log")).await.status, 204);
            assert_eq!(get(&cluster, &log).await.text(), "a log");
            assert_eq!(ask(&cluster, delete(&format!("{door}{log}"))).await.status, 204);
            assert_eq!(get(&cluster, &log).await.status, 404);
            assert_eq!(ask(&cluster, delete(&format!("{door}{log}"))).await.status, 404);
        }
        cluster.end().await;
    }

    async fn an_upload_that_is_lost_takes_its_narinfo_with_it(mode) {
        let cluster = closed(mode).start().await;
        let (lost, kept) = (fixture(Compression::Xz), large());
        upload(&cluster, "", &lost).await;
        upload(&cluster, "", &kept).await;
        let file = cluster.store_dir().join(lost.nar_path().trim_start_matches('/'));
        let data = cluster.end().await;
        std::fs::remove_file(file).expect("it was there");
        let cluster = closed(mode).on(data).start().await;
        eventually("its path is gone", async || {
            get(&cluster, &lost.nar_path()).await.status == 404
                && get(&cluster, &lost.narinfo_path()).await.status == 404
        })
        .await;
        is_served(&cluster, &kept).await;
        upload(&cluster, "", &lost).await;
        is_served(&cluster, &lost).await;
        cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_control_is_away_nothing_is_written_and_nothing_deleted() {
    let cluster = closed(Mode::Split).start().await;
    let (there, new) = (fixture(Compression::Zstd), large());
    upload(&cluster, "", &there).await;
    let (listing, log) = objects_of(&there);
    assert_eq!(ask(&cluster, put(&log, "built")).await.status, 204);
    let link = cluster.link.as_ref().expect("split");
    link.refuse().await;
    let writes = || {
        let narinfo = put(&new.narinfo_path(), new.narinfo_text());
        [
            put(&new.nar_path(), new.file.clone()),
            narinfo,
            delete(&there.narinfo_path()),
            delete(&there.nar_path()),
            put(&listing, "{}"),
            put(&log, "built again"),
            delete(&log),
        ]
    };
    for (n, request) in writes().into_iter().enumerate() {
        let told = ask(&cluster, request).await;
        assert_eq!(told.status, 503, "{n}: {}", told.text());
        assert!(told.header("Retry-After").is_some(), "{n}");
    }
    assert!(cluster.stores(&there.nar_path()), "what is here stays");
    assert_eq!(get(&cluster, &log).await.text(), "built");
    assert_eq!(get(&cluster, &listing).await.status, 404);
    link.mend().await;
    eventually("control answers", async || {
        ask(&cluster, put(&new.nar_path(), new.file.clone())).await.status == 204
    })
    .await;
    upload(&cluster, "", &new).await;
    is_served(&cluster, &new).await;
    is_served(&cluster, &there).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_was_cut_off_drops_what_was_deleted_when_it_is_back() {
    let cluster = closed(Mode::Split).start().await;
    let (bare, kept) = (fixture(Compression::Xz), large());
    let gone = Fixture::new("gone-1.0").size(100_000).compression(Compression::Zstd).build_unsigned();
    for fixture in [&bare, &gone, &kept] {
        upload(&cluster, "", fixture).await;
    }
    let link = cluster.link.as_ref().expect("split");
    link.refuse().await;
    let elsewhere = || Writer { instance: "elsewhere".to_owned(), secret: Some(Secret::new("signer")) };
    let control = cluster.control();
    assert!(control.delete_narinfo(bare.store_path().hash(), elsewhere()).await.expect("answers"));
    assert_eq!(control.delete_nar(file_of(&gone), elsewhere()).await.expect("answers").len(), 1);
    assert!(narinfo_file(&cluster, &bare).exists() && cluster.stores(&gone.nar_path()), "it can't know");
    link.mend().await;
    eventually("it is dropped", async || {
        !narinfo_file(&cluster, &bare).exists()
            && !narinfo_file(&cluster, &gone).exists()
            && !cluster.stores(&gone.nar_path())
    })
    .await;
    assert!(cluster.stores(&bare.nar_path()), "its narinfo alone was deleted");
    for fixture in [&bare, &gone] {
        eventually("it is not served", async || get(&cluster, &fixture.narinfo_path()).await.status == 404)
            .await;
    }
    is_served(&cluster, &kept).await;
    cluster.end().await;
}
