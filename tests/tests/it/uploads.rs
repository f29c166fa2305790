//! What clients upload over HTTP: how it is sent, what of it is taken, and what is said of the rest. (Lines 45 and 51 to
//! 58 of the protocol's conformance checklist.)

use std::time::Duration;

use ncps_nix::Compression;
use ncps_proto::Scope;
use ncps_tests::{
    Body, Cluster, ClusterBuilder, Fixture, Gate, Mode, Request, Rule, Upstream, UpstreamKey, both_modes,
    eventually,
};

use crate::asking::{Answer, ask, get, head};

/// Who may do all of it.
pub(crate) const SIGNER: &str = "Bearer signer";
const WRITER: &str = "Bearer writer";

/// A cluster to which tokens may write.
pub(crate) fn closed(mode: Mode) -> ClusterBuilder {
    let all = [Scope::Write, Scope::Delete, Scope::Sign];
    Cluster::builder(mode).writable().token("signer", &all).token("writer", &[Scope::Write, Scope::Delete])
}

pub(crate) fn put(path: &str, body: impl Into<Body>) -> Request {
    Request::put(path, body).header("Authorization", SIGNER)
}

pub(crate) async fn upload(cluster: &Cluster, prefix: &str, fixture: &Fixture) {
    let nar = ask(cluster, put(&format!("{prefix}{}", fixture.nar_path()), fixture.file.clone())).await;
    assert_eq!(nar.status, 204, "{}", nar.text());
    let narinfo = put(&format!("{prefix}{}", fixture.narinfo_path()), fixture.narinfo_text());
    let narinfo = ask(cluster, narinfo).await;
    assert_eq!(narinfo.status, 204, "{}", narinfo.text());
}

pub(crate) fn fixture(compression: Compression) -> Fixture {
    Fixture::new("uploaded-1.0").size(200_000).compression(compression).build_unsigned()
}

pub(crate) fn large() -> Fixture {
    Fixture::new("large-1.0").size(3 << 20).compression(Compression::None).build_unsigned()
}

pub(crate) async fn is_served(cluster: &Cluster, fixture: &Fixture) {
    let narinfo = cluster.narinfo(fixture).await;
    assert_eq!((narinfo.nar_hash, narinfo.nar_size), (fixture.narinfo.nar_hash, fixture.narinfo.nar_size));
    let ours = cluster.public_key().await;
    assert!(narinfo.signatures.iter().any(|signature| ours.verify(&narinfo.fingerprint(), signature)));
    let nar = get(cluster, &format!("/{}", narinfo.url)).await;
    assert!(nar.status == 200 && nar.body == fixture.file.to_bytes());
}

/// Nothing of it is here.
pub(crate) async fn is_not_there(cluster: &Cluster, fixture: &Fixture) {
    for path in [fixture.narinfo_path(), fixture.nar_path()] {
        assert_eq!(get(cluster, &path).await.status, 404, "{path}");
        assert_eq!(get(cluster, &format!("/upload{path}")).await.status, 404, "{path}");
    }
    assert_eq!(cluster.stored_files(), [""; 0]);
    eventually("the spool is empty", async || cluster.edge.store.spool_files().expect("listed") == 0).await;
}

pub(crate) fn refused(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert!(answer.text().contains(words) && answer.text().lines().count() == 1, "{}", answer.text());
}

both_modes! {
    async fn what_is_uploaded_is_served_in_every_compression(mode) {
        for prefix in ["", "/upload"] {
            let cluster = closed(mode).start().await;
            for compression in [Compression::None, Compression::Xz, Compression::Zstd, Compression::Bzip2] {
                let fixture = fixture(compression);
                upload(&cluster, prefix, &fixture).await;
                is_served(&cluster, &fixture).await;
                let deleted = Request::delete(&fixture.narinfo_path()).header("Authorization", SIGNER);
                assert_eq!(ask(&cluster, deleted).await.status, 204);
            }
            cluster.end().await;
        }
    }

    async fn line_45_an_upload_is_seen_at_once(mode) {
        let upstream = Upstream::start().await;
        let cluster = closed(mode).upstream(&upstream).start().await;
        let fixture = fixture(Compression::Xz);
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404, "and that is remembered");
        upload(&cluster, "", &fixture).await;
        is_served(&cluster, &fixture).await;
        let cluster = cluster.restart(closed(mode).upstream(&upstream)).await;
        is_served(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn line_51_who_has_no_credentials_is_refused_before_the_body(mode) {
        let cluster = closed(mode).start().await;
        let fixture = large();
        for path in [fixture.nar_path(), fixture.narinfo_path(), format!("/log/{}.drv", fixture.store_path())] {
            for path in [path.clone(), format!("/upload{path}")] {
                let upload = || Request::put(&path, fixture.file.clone()).expect_continue();
                for request in [upload(), upload().header("Authorization", "Bearer guess")] {
                    let told = cluster.send(request).await;
                    assert_eq!((told.status, told.continued), (401, false), "{path}");
                    assert!(told.header("WWW-Authenticate").is_some_and(|c| c.starts_with("Basic")));
                }
                assert_eq!(ask(&cluster, Request::delete(&path)).await.status, 401, "{path}");
            }
        }
        is_not_there(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn line_52_and_53_with_expect_and_in_chunks(mode) {
        let cluster = closed(mode).start().await;
        let fixture = large();
        let told = cluster.send(put(&fixture.nar_path(), fixture.file.clone()).expect_continue()).await;
        assert_eq!((told.status, told.continued), (204, true));
        let chunked = Fixture::new("chunked-1.0").size(2 << 20).build_unsigned();
        assert_eq!(ask(&cluster, put(&chunked.nar_path(), chunked.file.clone()).chunked()).await.status, 204);
        let both = put(&chunked.narinfo_path(), chunked.narinfo_text()).chunked();
        assert_eq!(ask(&cluster, both).await.status, 204);
        is_served(&cluster, &chunked).await;
        // It is there: nobody wants to see it again.
        let told = cluster.send(put(&fixture.nar_path(), fixture.file.clone()).expect_continue()).await;
        assert_eq!((told.status, told.continued), (204, false));
        cluster.end().await;
    }

    async fn line_54_bytes_that_are_not_what_their_name_says_are_not_stored(mode) {
        let cluster = closed(mode).start().await;
        for compression in [Compression::None, Compression::Xz, Compression::Zstd] {
            let (fixture, other) =
                (fixture(compression), Fixture::new("other").compression(compression).build_unsigned());
            let wrong = put(&fixture.nar_path(), other.file.clone());
            refused(&ask(&cluster, wrong).await, 422, "another hash");
            let garbage = put(&fixture.nar_path(), vec![7; 300_000]);
            refused(&ask(&cluster, garbage).await, 422, "is not one NAR");
            is_not_there(&cluster, &fixture).await;
        }
        cluster.end().await;
    }

    async fn line_55_a_narinfo_without_its_nar_is_refused(mode) {
        let upstream = Upstream::start().await;
        let cluster = closed(mode).upstream(&upstream).start().await;
        let fixture = fixture(Compression::Xz);
        for path in [fixture.narinfo_path(), format!("/upload{}", fixture.narinfo_path())] {
            refused(&ask(&cluster, put(&path, fixture.narinfo_text())).await, 422, "upload the NAR first");
        }
        is_not_there(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn line_56_a_narinfo_that_is_none_or_of_another_path_is_refused(mode) {
        let cluster = closed(mode).start().await;
        let (fixture, other) = (fixture(Compression::Xz), large());
        let path = fixture.narinfo_path();
        refused(&ask(&cluster, put(&path, "StorePath: nonsense")).await, 400, "not a narinfo");
        refused(&ask(&cluster, put(&path, other.narinfo_text())).await, 400, "narinfo of");
        refused(&ask(&cluster, put("/short.narinfo", "x")).await, 400, "names nothing");
        refused(&ask(&cluster, put("/nar/short.nar", "x")).await, 400, "names nothing");
        refused(&ask(&cluster, put(&path, vec![b'x'; (1 << 20) + 1])).await, 413, "too large");
        is_not_there(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn line_57_an_encoded_narinfo_is_decoded(mode) {
        let cluster = closed(mode).start().await;
        for (n, coding) in ["gzip", "zstd", "br", "xz"].into_iter().enumerate() {
            let fixture = Fixture::new("encoded-1.0").seed(n as u64).build_unsigned();
            let nar = ask(&cluster, put(&fixture.nar_path(), fixture.file.clone())).await;
            assert_eq!(nar.status, 204, "{}", nar.text());
            let text = crate::objects::encoded(coding, &fixture.narinfo_text()).await;
            let narinfo = put(&fixture.narinfo_path(), text).header("Content-Encoding", coding);
            assert_eq!(ask(&cluster, narinfo).await.status, 204, "{coding}");
            is_served(&cluster, &fixture).await;
        }
        let fixture = fixture(Compression::Xz);
        let odd = put(&fixture.narinfo_path(), "x").header("Content-Encoding", "compress");
        refused(&ask(&cluster, odd).await, 400, "can't be decoded");
        let wrapped = put(&fixture.nar_path(), fixture.file.clone()).header("Content-Encoding", "gzip");
        refused(&ask(&cluster, wrapped).await, 400, "Content-Encoding");
        cluster.end().await;
    }

    async fn line_58_the_same_upload_at_once_and_again_is_one(mode) {
        let cluster = closed(mode).start().await;
        let fixture = large();
        let uploads = (0..4).map(|_| upload(&cluster, "", &fixture));
        futures::future::join_all(uploads).await;
        upload(&cluster, "/upload", &fixture).await;
        assert_eq!(cluster.stored_files().len(), 1);
        let narinfo = cluster.narinfo(&fixture).await;
        assert_eq!(narinfo.signatures.len(), 1, "ours, once");
        is_served(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn under_upload_only_what_is_stored_is_there(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("elsewhere-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = closed(mode).upstream(&upstream).trust(&key).start().await;
        let (narinfo, nar) = (fixture.narinfo_path(), fixture.nar_path());
        let stored = |path: &str| format!("/upload{path}");
        let log = format!("/log/{}.drv", fixture.store_path());
        upstream.put(&log, "a log");
        for path in [&narinfo, &nar, &log] {
            assert_eq!(get(&cluster, &stored(path)).await.status, 404);
            assert_eq!(head(&cluster, &stored(path)).await.status, 404);
        }
        assert_eq!(upstream.total(), 0, "nobody was asked");
        assert_eq!(get(&cluster, &narinfo).await.status, 200);
        assert_eq!(get(&cluster, &stored(&narinfo)).await.status, 404, "its NAR is not stored");
        assert_eq!((get(&cluster, &nar).await.status, get(&cluster, &log).await.status), (200, 200));
        cluster.quiet().await;
        for path in [&narinfo, &nar, &log, "/nix-cache-info", "/pubkey"] {
            assert_eq!(get(&cluster, &stored(path)).await.body, get(&cluster, path).await.body, "{path}");
            assert_eq!(head(&cluster, &stored(path)).await.status, 200, "{path}");
        }
        cluster.end().await;
    }

    async fn line_61_a_log_comes_back_under_every_spelling_of_its_name(mode) {
        let cluster = closed(mode).start().await;
        let hash = "00000000000000000000000000000000";
        let raw = |n: usize| format!("/log/{hash}-{n}gtk+3?x=1.drv");
        let encoded = |n: usize| format!("/log/{hash}-{n}gtk%2B3%3Fx%3D1.drv");
        let doors = [("", raw(0)), ("", encoded(1)), ("/upload", raw(2)), ("/upload", encoded(3))];
        for (n, (door, written)) in doors.into_iter().enumerate() {
            let text = format!("building {n}\n");
            assert_eq!(get(&cluster, &written).await.status, 404, "{written}");
            let told = ask(&cluster, put(&format!("{door}{written}"), text.clone())).await;
            assert_eq!(told.status, 204, "{written}: {}", told.text());
            for read in [raw(n), encoded(n)] {
                for door in ["", "/upload"] {
                    let told = get(&cluster, &format!("{door}{read}")).await;
                    assert_eq!((told.status, told.text()), (200, text.as_str()), "{door}{read}");
                }
            }
        }
        cluster.end().await;
    }

    async fn a_build_trace_is_taken_with_and_without_its_suffix(mode) {
        let cluster = closed(mode).start().await;
        let drv = "00000000000000000000000000000000-a.drv";
        let trace = |output: &str| {
            format!("{{\"key\":{{\"drvPath\":\"{drv}\",\"outputName\":\"{output}\"}},\"value\":{{\"outPath\":\"11111111111111111111111111111111-a\",\"signatures\":[]}}}}")
        };
        for (output, written) in [("out", "out"), ("dev", "dev.doi")] {
            let path = format!("/upload/build-trace-v2/{drv}/{written}");
            assert_eq!(ask(&cluster, put(&path, trace("other"))).await.status, 400, "of another output");
            assert_eq!(ask(&cluster, put(&path, trace(output))).await.status, 204, "{written}");
            for read in [output.to_owned(), format!("{output}.doi")] {
                let told = get(&cluster, &format!("/build-trace-v2/{drv}/{read}")).await;
                assert_eq!((told.status, told.text()), (200, trace(output).as_str()), "{read}");
            }
        }
        cluster.end().await;
    }

    async fn at_the_root_a_narinfo_brings_its_nar_from_upstream(mode) {
        let (there, gone) = (fixture(Compression::Xz), large());
        let upstream = Upstream::start().await;
        upstream.put(&there.nar_path(), there.file.clone());
        let cluster = closed(mode).upstream(&upstream).start().await;
        let under_upload = put(&format!("/upload{}", there.narinfo_path()), there.narinfo_text());
        refused(&ask(&cluster, under_upload).await, 422, "upload the NAR first");
        assert_eq!(upstream.count("GET", "/nar/"), 0, "nobody was asked");
        assert_eq!(head(&cluster, &there.nar_path()).await.status, 200, "so that a client does not send it");
        assert_eq!(ask(&cluster, put(&there.narinfo_path(), there.narinfo_text())).await.status, 204);
        assert!(cluster.stores(&there.nar_path()));
        is_served(&cluster, &there).await;
        refused(&ask(&cluster, put(&gone.narinfo_path(), gone.narinfo_text())).await, 422, "upload the NAR first");
        cluster.end().await;
    }

    async fn an_upload_and_a_download_of_one_file_at_once_are_one_file(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = large().signed(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = closed(mode).upstream(&upstream).trust(&key).start().await;
        cluster.narinfo(&fixture).await;
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").pause_at(1 << 20, &gate));
        let mut reading = cluster.get(&fixture.nar_path()).await;
        let begin = reading.bytes(1000).await.expect("it has begun");
        gate.reached().await;
        upload(&cluster, "", &fixture).await;
        is_served(&cluster, &fixture).await;
        gate.open();
        assert!([begin, reading.whole().await].concat() == fixture.file.to_bytes(), "other bytes");
        cluster.quiet().await;
        assert_eq!(cluster.stored_files().len(), 1);
        is_served(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn what_is_too_large_is_refused(mode) {
        let small = |s: &mut ncps_proto::EdgeSettings| s.writing.max_upload_bytes = 1 << 20;
        let cluster = closed(mode).settings(small).start().await;
        let fixture = large();
        let told = cluster.send(put(&fixture.nar_path(), fixture.file.clone()).expect_continue()).await;
        assert_eq!((told.status, told.continued), (413, false));
        let chunked = cluster.send(put(&fixture.nar_path(), fixture.file.clone()).chunked()).await;
        assert_eq!(chunked.status, 413);
        // A bomb: it comes small and decodes to more than may be.
        let bomb = Fixture::new("bomb").size(40 << 20).compressible().compression(Compression::Zstd);
        let bomb = bomb.build_unsigned();
        assert!(bomb.file.len() < 20 << 20);
        let lax = |s: &mut ncps_proto::EdgeSettings| s.writing.max_upload_bytes = 20 << 20;
        is_not_there(&cluster, &fixture).await;
        let cluster = cluster.restart(closed(mode).settings(lax)).await;
        refused(&ask(&cluster, put(&bomb.nar_path(), bomb.file.clone())).await, 413, "larger than");
        is_not_there(&cluster, &bomb).await;
        cluster.end().await;
    }

    async fn a_body_that_is_cut_leaves_nothing(mode) {
        let cluster = closed(mode).start().await;
        let fixture = large();
        for chunked in [false, true] {
            for bytes in [0, 1, 700_000, fixture.file.len() - 1] {
                let upload = put(&fixture.nar_path(), fixture.file.clone()).cut_after(bytes);
                let upload = if chunked { upload.chunked() } else { upload };
                upload.send(cluster.addr).await.expect_err("it was cut");
            }
        }
        is_not_there(&cluster, &fixture).await;
        upload(&cluster, "", &fixture).await;
        is_served(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn a_body_that_stalls_is_refused(mode) {
        let short = |s: &mut ncps_proto::EdgeSettings| s.idle_timeout = Duration::from_millis(300);
        let cluster = closed(mode).settings(short).start().await;
        let fixture = large();
        let mut connection = ncps_tests::Connection::open(cluster.addr).await.expect("connected");
        let path = fixture.nar_path();
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {SIGNER}\r\nContent-Length: {}\r\n\r\nabc",
            fixture.file.len()
        );
        connection.write(head.as_bytes()).await.expect("written");
        assert_eq!(connection.read().await.expect("it answers").status, 408);
        is_not_there(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn without_the_verbs_nothing_is_written(mode) {
        let cluster = closed(mode).settings(|s| s.writing.put = false).start().await;
        let fixture = large();
        let told = cluster.send(put(&fixture.nar_path(), fixture.file.clone()).expect_continue()).await;
        assert_eq!((told.status, told.continued, told.header("Allow")), (405, false, Some("GET, HEAD, DELETE")));
        for path in ["/nix-cache-info", "/upload/nix-cache-info", "/pubkey", "/", "/foo"] {
            let told = ask(&cluster, put(path, "x")).await;
            assert_eq!((told.status, told.header("Allow")), (405, Some("GET, HEAD")), "{path}");
        }
        cluster.end().await;
    }

    async fn where_no_token_closes_it_anybody_writes_and_nobody_signs(mode) {
        let key = UpstreamKey::new("ci-1");
        let cluster = Cluster::builder(mode).writable().admission(|a| a.keys.push(key.public())).start().await;
        let (signed, unsigned) = (large().signed(&key), fixture(Compression::Xz));
        for fixture in [&signed, &unsigned] {
            let nar = ask(&cluster, Request::put(&fixture.nar_path(), fixture.file.clone())).await;
            assert_eq!(nar.status, 204, "{}", nar.text());
        }
        let narinfo = |fixture: &Fixture| Request::put(&fixture.narinfo_path(), fixture.narinfo_text());
        assert_eq!(ask(&cluster, narinfo(&signed)).await.status, 204);
        refused(&ask(&cluster, narinfo(&unsigned)).await, 422, "scope sign");
        assert_eq!(get(&cluster, &unsigned.narinfo_path()).await.status, 404);
        is_served(&cluster, &signed).await;
        cluster.end().await;
        let cluster = Cluster::builder(mode).writable().settings(|s| s.writing.require_token = true).start().await;
        assert_eq!(ask(&cluster, Request::delete(&signed.narinfo_path())).await.status, 401);
        cluster.end().await;
    }

    async fn who_may_write_but_not_sign_is_told_the_three_ways(mode) {
        let cluster = closed(mode).start().await;
        let fixture = fixture(Compression::Xz);
        let as_writer = |request: Request| request.header("Authorization", WRITER);
        let nar = as_writer(Request::put(&fixture.nar_path(), fixture.file.clone()));
        assert_eq!(ask(&cluster, nar).await.status, 204);
        let narinfo = as_writer(Request::put(&fixture.narinfo_path(), fixture.narinfo_text()));
        let told = ask(&cluster, narinfo).await;
        for way in ["trusted", "content-addressed", "scope sign"] {
            refused(&told, 422, way);
        }
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404);
        cluster.end().await;
    }
}
