//! The small things that clients upload: realisations, debug info, listings and logs, in every coding that they come
//! in, and what comes small and decodes to more than it may be.

use ncps_tests::{Cluster, Fixture, both_modes, eventually};

use crate::asking::{ask, get};
use crate::objects::encoded;
use crate::uploads::{closed, put, refused};

const CODINGS: [&str; 4] = ["identity", "gzip", "zstd", "br"];
/// Of a realisation, a build trace, debug info, and of a narinfo.
const SMALL: usize = 1 << 20;
/// Of a log and a listing.
const LARGE: usize = 64 << 20;

/// One of each kind, no two alike: its path, its body, and its Content-Type.
fn each_kind(n: usize) -> Vec<(String, String, &'static str)> {
    let (json, digit) = ("application/json", format!("{n:x}"));
    let id = format!("sha256:{}!out", digit.repeat(64));
    let realisation =
        serde_json::json!({ "id": id, "outPath": "a", "signatures": [], "dependentRealisations": {} });
    let debug_info = serde_json::json!({ "archive": "../nar/x.nar", "member": format!("lib/{n}.debug") });
    let listing = serde_json::json!({ "version": 1, "root": { "type": "regular", "size": n } });
    let hash = format!("{:0>32}", n);
    vec![
        (format!("/realisations/{id}.doi"), realisation.to_string(), json),
        (format!("/debuginfo/{}", digit.repeat(40)), debug_info.to_string(), json),
        (format!("/debuginfo/{}.debug", digit.repeat(40)), debug_info.to_string(), json),
        (format!("/{hash}.ls"), listing.to_string(), json),
        (format!("/log/{hash}-a.drv"), format!("building {n}\n").repeat(1000), "text/plain; charset=utf-8"),
    ]
}

async fn in_coding(coding: &str, text: &str) -> Vec<u8> {
    if coding == "identity" { text.as_bytes().to_vec() } else { encoded(coding, text).await }
}

async fn nothing_is_spooled(cluster: &Cluster) {
    eventually("the spool is empty", async || cluster.edge.store.spool_files().expect("listed") == 0).await;
}

both_modes! {
    async fn each_kind_comes_in_every_coding_and_is_had_as_it_is(mode) {
        let cluster = closed(mode).start().await;
        for (n, coding) in CODINGS.into_iter().enumerate() {
            let door = ["", "/upload"][n % 2];
            for (path, text, content_type) in each_kind(n) {
                let what = format!("{path} in {coding}");
                assert_eq!(get(&cluster, &path).await.status, 404, "{what}");
                let body = in_coding(coding, &text).await;
                let told = ask(&cluster, put(&format!("{door}{path}"), body).header("Content-Encoding", coding)).await;
                assert_eq!(told.status, 204, "{what}: {}", told.text());
                for read in [path.clone(), format!("/upload{path}")] {
                    let told = get(&cluster, &read).await;
                    assert_eq!((told.status, told.header("Content-Encoding")), (200, None), "{what}");
                    assert_eq!((told.text(), told.header("Content-Type")), (&*text, Some(content_type)), "{what}");
                }
            }
        }
        nothing_is_spooled(&cluster).await;
        cluster.end().await;
    }

    async fn what_is_not_what_its_name_says_is_refused_in_every_coding(mode) {
        let cluster = closed(mode).start().await;
        for coding in CODINGS {
            let of_another = each_kind(1).remove(0).1;
            for (path, _, content_type) in each_kind(0) {
                let is_log = content_type.starts_with("text/");
                let wrong = if path.starts_with("/realisations") { &*of_another } else { "no JSON" };
                let body = in_coding(coding, wrong).await;
                let sent = || put(&path, body.clone()).header("Content-Encoding", coding);
                if !is_log {
                    refused(&ask(&cluster, sent()).await, 400, "");
                }
                // A body that is in no coding at all, or in another one than it says.
                if coding != "identity" {
                    let raw = put(&path, "neither").header("Content-Encoding", coding);
                    refused(&ask(&cluster, raw).await, 400, "not what Content-Encoding says");
                }
                assert_eq!(get(&cluster, &path).await.status, 404, "{path}");
                assert_eq!(get(&cluster, &format!("/upload{path}")).await.status, 404, "{path}");
            }
        }
        nothing_is_spooled(&cluster).await;
        cluster.end().await;
    }

    async fn a_bomb_is_refused_and_leaves_nothing(mode) {
        let cluster = closed(mode).start().await;
        let narinfo = Fixture::new("bomb-1.0").build_unsigned().narinfo_path();
        let mut targets: Vec<_> = each_kind(0).into_iter().map(|(path, ..)| (path, SMALL)).collect();
        targets.iter_mut().filter(|(path, _)| path.ends_with(".ls") || path.ends_with(".drv")).for_each(|t| t.1 = LARGE);
        targets.push((narinfo, SMALL));
        for (coding, sizes) in [("gzip", &[SMALL][..]), ("br", &[SMALL]), ("zstd", &[SMALL, LARGE])] {
            for &size in sizes {
                let bomb = encoded(coding, &format!("{{\"a\":\"{}", "x".repeat(size))).await;
                assert!(bomb.len() < size / 100, "{coding}: {} bytes", bomb.len());
                for (path, _) in targets.iter().filter(|(_, limit)| *limit == size) {
                    for path in [path.clone(), format!("/upload{path}")] {
                        let sent = put(&path, bomb.clone()).header("Content-Encoding", coding);
                        refused(&ask(&cluster, sent).await, 413, "too large");
                        assert_eq!(get(&cluster, &path).await.status, 404, "{path}");
                    }
                }
            }
        }
        nothing_is_spooled(&cluster).await;
        assert_eq!(cluster.stored_files(), [""; 0]);
        cluster.end().await;
    }
}
