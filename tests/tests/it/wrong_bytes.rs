//! Bytes that are not what was promised: too many, too few, others. They are never served as the whole and
//! never kept; the right ones are found where somebody has them. And metadata that is wrong while the bytes are
//! right. (PROTOCOL.md §11, lines 37 and 38.)

use bytes::Bytes;
use ncps_nix::{Compression, FileHash, Sha256Hash};
use ncps_tests::{Cluster, Fixture, Framing, Rule, Upstream, both_modes, eventually};

use crate::scene::{HELD_BACK, empty, is_aborted, is_refused, is_served, learn, plain};

const COMPRESSIONS: [Compression; 4] =
    [Compression::None, Compression::Xz, Compression::Bzip2, Compression::Zstd];

both_modes! {
    async fn line_37_wrong_bytes_are_aborted_and_never_stored(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        for compression in COMPRESSIONS {
            for flipped in [100_000, 299_999] {
                let fixture = plain(300_000).compression(compression).seed(flipped + compression as u64);
                let fixture = fixture.build(&key);
                learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
                upstream.script(Rule::on(&fixture.nar_path()).flip(flipped));
                let came = is_aborted(&cluster, &upstream, &fixture).await.len();
                assert!(came <= fixture.file.len() as usize - HELD_BACK, "the tail is held back");
                // Not from the disk, and not from an origin whose bytes were wrong.
                is_refused(&cluster, &fixture, 502).await;
                assert_eq!(upstream.count("GET", &fixture.nar_path()), 1);
            }
        }
        cluster.end().await;
    }

    async fn line_37_wrong_bytes_of_a_small_file_are_a_502(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        for compression in COMPRESSIONS {
            let fixture = plain(10_000).compression(compression).seed(compression as u64).build(&key);
            learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
            upstream.script(Rule::on(&fixture.nar_path()).flip(5_000));
            is_refused(&cluster, &fixture, 502).await;
        }
        assert_eq!(cluster.edge.engine.counters().wrong(), 4);
        cluster.end().await;
    }

    async fn wrong_bytes_of_a_small_file_are_replaced_by_the_second_upstreams(mode) {
        let (cluster, [wrong, right], key) = empty(mode).await;
        for compression in COMPRESSIONS {
            let fixture = plain(10_000).compression(compression).seed(compression as u64).build(&key);
            learn(&cluster, std::slice::from_ref(&wrong), &fixture).await;
            right.add(&fixture);
            wrong.script(Rule::on(&fixture.nar_path()).flip(5_000));
            is_served(&cluster, &fixture).await;
            assert_eq!(fetches(&fixture, [&wrong, &right]), [1, 1]);
        }
        cluster.end().await;
    }

    async fn after_wrong_bytes_of_a_large_file_the_next_request_gets_the_second_upstreams(mode) {
        let (cluster, [wrong, right], key) = empty(mode).await;
        for compression in COMPRESSIONS {
            let fixture = plain(300_000).compression(compression).seed(compression as u64).build(&key);
            learn(&cluster, std::slice::from_ref(&wrong), &fixture).await;
            right.add(&fixture);
            wrong.script(Rule::on(&fixture.nar_path()).flip(1_000));
            is_aborted(&cluster, &wrong, &fixture).await;
            assert_eq!(right.count("GET", &fixture.nar_path()), 0, "two sources are not mixed after a lie");
            is_served(&cluster, &fixture).await;
            assert_eq!(fetches(&fixture, [&wrong, &right]), [1, 1]);
        }
        cluster.end().await;
    }

    async fn line_38_another_length_than_promised_is_refused_before_the_first_byte(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        for (seed, size) in [10_000, 300_000].into_iter().enumerate() {
            let fixture = plain(size).seed(seed as u64).build(&key);
            learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
            let len = fixture.file.len();
            for rule in [Rule::on("/nar/*").extra(10), Rule::on("/nar/*").shorten_to(len - 10)] {
                let lie = upstream.script(rule);
                is_refused(&cluster, &fixture, 502).await;
                lie.remove();
            }
            is_served(&cluster, &fixture).await;
        }
        cluster.end().await;
    }

    async fn line_38_more_bytes_than_promised_are_aborted(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        for (seed, extra) in [(1, 1), (2, 10), (3, 500_000)] {
            for framing in [Framing::Chunked, Framing::Close] {
                let fixture = plain(300_000).seed(seed * 2 + framing as u64).build(&key);
                learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
                upstream.script(Rule::on(&fixture.nar_path()).framing(framing).extra(extra));
                let came = is_aborted(&cluster, &upstream, &fixture).await.len();
                assert!(came <= fixture.file.len() as usize - HELD_BACK, "{extra} {framing:?}");
            }
        }
        cluster.end().await;
    }

    async fn after_more_bytes_than_promised_the_second_upstream_is_asked(mode) {
        let (cluster, [more, right], key) = empty(mode).await;
        for framing in [Framing::Chunked, Framing::Close] {
            for size in [10_000, 300_000] {
                let fixture = plain(size).seed(framing as u64).build(&key);
                learn(&cluster, std::slice::from_ref(&more), &fixture).await;
                right.add(&fixture);
                more.script(Rule::on(&fixture.nar_path()).framing(framing).extra(10));
                if size > HELD_BACK as u64 {
                    is_aborted(&cluster, &more, &fixture).await;
                }
                is_served(&cluster, &fixture).await;
                assert_eq!(fetches(&fixture, [&more, &right]), [1, 1], "{framing:?} {size}");
            }
        }
        cluster.end().await;
    }

    async fn line_38_fewer_bytes_than_promised_are_aborted(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        for framing in [Framing::Chunked, Framing::Close] {
            let fixture = plain(300_000).seed(framing as u64).build(&key);
            learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
            let length = fixture.file.len() - 10;
            let short = upstream.script(Rule::on("/nar/*").framing(framing).shorten_to(length));
            is_aborted(&cluster, &upstream, &fixture).await;
            short.remove();
            is_served(&cluster, &fixture).await;
        }
        cluster.end().await;
    }

    async fn a_small_file_of_fewer_bytes_comes_from_the_second_upstream(mode) {
        let (cluster, [short, right], key) = empty(mode).await;
        for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
            let fixture = plain(10_000).seed(framing as u64).build(&key);
            learn(&cluster, std::slice::from_ref(&short), &fixture).await;
            right.add(&fixture);
            short.script(Rule::on("/nar/*").framing(framing).shorten_to(5_000));
            is_served(&cluster, &fixture).await;
        }
        cluster.end().await;
    }

    async fn a_wrong_file_hash_over_right_bytes_is_corrected(mode) {
        let (mut cluster, [upstream], key) = empty(mode).await;
        let mut all = Vec::new();
        for compression in [Compression::Xz, Compression::Bzip2, Compression::Zstd] {
            for size in [10_000, 300_000] {
                let right = plain(size).compression(compression).seed(size + compression as u64).build(&key);
                // Where the upstream has it is not what it is called: only the FileHash is wrong.
                let wrong = right.changed(|narinfo| narinfo.file_hash = Some(unlike(&right)));
                upstream.add(&wrong);
                all.push((cluster.narinfo(&wrong).await.url, right));
            }
        }
        for (old, right) in &all {
            assert_ne!(format!("/{old}"), right.canonical_nar_path());
            let (status, outcome) = cluster.fetch(&format!("/{old}")).await;
            assert!(status == 200 && outcome.whole() == right.file.to_bytes(), "the bytes were right");
            cluster.quiet().await;
            assert!(cluster.stores(&right.canonical_nar_path()) && !cluster.stores(&format!("/{old}")));
            let name = right.canonical_nar_path();
            let corrected = async || format!("/{}", cluster.narinfo(right).await.url) == name;
            eventually("the narinfo is corrected", corrected).await;
            let narinfo = cluster.narinfo(right).await;
            assert_eq!(narinfo.file_hash, Some(right.file_hash()));
            assert_eq!(narinfo.file_size, Some(right.file.len()));
        }
        upstream.forget();
        let data = cluster.end().await;
        cluster = Cluster::builder(mode).upstream(&upstream).trust(&key).on(data).start().await;
        for (old, right) in &all {
            for path in [format!("/{old}"), right.canonical_nar_path()] {
                assert!(whole(&cluster, &path).await == right.file.to_bytes(), "{path} after a restart");
            }
            assert_eq!(format!("/{}", cluster.narinfo(right).await.url), right.canonical_nar_path());
        }
        assert_eq!(upstream.total(), 0, "all of it is known and here: {:?}", upstream.requests());
        cluster.end().await;
    }

    async fn another_nar_under_a_signed_narinfo_is_not_stored(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        for compression in [Compression::Xz, Compression::Bzip2, Compression::Zstd] {
            for size in [10_000, 300_000] {
                let build = |seed| plain(size).compression(compression).seed(seed).build(&key);
                let seed = size + compression as u64;
                let (signed, other) = (build(seed), build(seed + 7));
                // FileHash, FileSize and URL are those of the other NAR, and not signed.
                let mut lie = signed.changed(|narinfo| {
                    let (url, hash, size) =
                        (other.narinfo.url.clone(), other.narinfo.file_hash, other.narinfo.file_size);
                    (narinfo.url, narinfo.file_hash, narinfo.file_size) = (url, hash, size);
                });
                lie.file = other.file.clone();
                learn(&cluster, std::slice::from_ref(&upstream), &lie).await;
                // Its bytes are what its name says: clients see that it is another NAR. It is not kept.
                drop(cluster.fetch(&lie.nar_path()).await);
                cluster.quiet().await;
                assert_eq!(cluster.stored_files(), Vec::<String>::new());
                is_refused(&cluster, &lie, 502).await;
            }
        }
        assert_eq!(cluster.edge.engine.counters().wrong(), 6);
        cluster.end().await;
    }

    async fn an_uncompressed_nar_of_other_content_is_never_whole(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        let (signed, other) = (plain(300_000).build(&key), plain(300_000).seed(1).build(&key));
        let mut lie = signed.changed(|narinfo| narinfo.file_hash = other.narinfo.file_hash);
        lie.file = other.file.clone();
        upstream.add(&lie);
        let served = cluster.narinfo(&lie).await;
        assert_eq!(served.file_hash, Some(FileHash(signed.narinfo.nar_hash.0)), "the signed hash counts");
        is_aborted(&cluster, &upstream, &signed).await;
        cluster.end().await;
    }
}

/// How often each upstream was asked for the file.
fn fetches<const N: usize>(fixture: &Fixture, upstreams: [&Upstream; N]) -> [usize; N] {
    upstreams.map(|upstream| upstream.count("GET", &fixture.nar_path()))
}

/// A hash that is of none of the files.
fn unlike(fixture: &Fixture) -> FileHash {
    FileHash(Sha256Hash::of(fixture.file_hash().0.nix32().as_bytes()))
}

async fn whole(cluster: &Cluster, path: &str) -> Bytes {
    let (status, outcome) = cluster.fetch(path).await;
    assert_eq!(status, 200, "{path}");
    outcome.whole()
}
