//! Narinfos that are not served: names that are none, and upstream answers that are malformed, of another
//! path, or trusted by nobody. (Lines 8 and 16 to 18 of the protocol's conformance checklist.)

use ncps_nix::nar::build::{Node, encode};
use ncps_nix::{Compression, ContentAddress, FileHash, NarHash, NarInfo, StorePath};
use ncps_tests::{Body, Cluster, Fixture, Rule, Upstream, UpstreamKey, both_modes};

use crate::asking::{get, head};

/// An answer of an upstream for a fixture's narinfo that must not be believed.
type Shape = (&'static str, fn(&str) -> Vec<u8>);

both_modes! {
    async fn line_08_names_that_are_none_are_404_without_a_question(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("named-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let good = fixture.hash_part();
        let mut names = vec![good[..31].to_owned(), format!("{good}0"), String::new(), good.to_uppercase()];
        names.extend(["with-e-o-u-t".to_owned(), format!("{}-name", good), format!("{good}%20")]);
        names.extend(["e", "o", "u", "t", "-", "%00", "é"].map(|odd| format!("{}{odd}", &good[..31])));
        names.retain(|name| *name != good);
        for name in names {
            for path in [format!("/{name}.narinfo"), format!("/{name}.narinfo?x={good}")] {
                let told = get(&cluster, &path).await;
                assert_eq!(told.status, 404, "{path}");
                assert!(told.body.len() < 100, "{}", told.text());
                assert_eq!(head(&cluster, &path).await.comparable(), told.comparable(), "{path}");
            }
        }
        assert_eq!(upstream.total(), 0, "{:?}", upstream.requests());
        cluster.end().await;
    }

    async fn line_16_a_malformed_narinfo_is_neither_served_nor_remembered(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for (seed, (what, shape)) in malformed().into_iter().enumerate() {
            let fixture = Fixture::new("malformed-1.0").seed(seed as u64).build(&key);
            let path = fixture.narinfo_path();
            upstream.put(&path, malform(&fixture, shape));
            assert_refused(&cluster, &path, what).await;
            assert_refused(&cluster, &path, what).await;
            assert_eq!(upstream.count("GET", &path), 2, "asked anew each time: {what}");
            upstream.add(&fixture);
            assert_eq!(get(&cluster, &path).await.status, 200, "mended: {what}");
        }
        cluster.end().await;
    }

    async fn line_16_after_a_malformed_narinfo_the_next_upstream_is_asked(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (bad, good) = (Upstream::start().await, Upstream::start().await);
        let cluster = Cluster::builder(mode).upstream(&bad).upstream(&good).trust(&key).start().await;
        for (seed, (what, shape)) in malformed().into_iter().enumerate() {
            let fixture = Fixture::new("malformed-1.0").seed(seed as u64).build(&key);
            bad.put(&fixture.narinfo_path(), malform(&fixture, shape));
            good.add(&fixture);
            assert_served(&cluster, &fixture, what).await;
            assert_eq!(bad.count("GET", &fixture.narinfo_path()), 1, "it was asked first: {what}");
        }
        cluster.end().await;
    }

    async fn line_17_a_narinfo_of_another_path_is_refused(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (asked, other) = (Fixture::new("asked-1.0").build(&key), Fixture::new("other-1.0").build(&key));
        let (bad, good) = (Upstream::start().await, Upstream::start().await);
        bad.put(&asked.narinfo_path(), other.narinfo_text());
        let cluster = Cluster::builder(mode).upstream(&bad).upstream(&good).trust(&key).start().await;
        assert_refused(&cluster, &asked.narinfo_path(), "another path").await;
        let told = get(&cluster, &other.narinfo_path()).await;
        assert_eq!(told.status, 404, "it was not taken for its own path");
        good.add(&asked);
        assert_served(&cluster, &asked, "another path").await;
        cluster.end().await;
    }

    async fn line_18_a_narinfo_that_nobody_vouches_for_is_refused(mode) {
        let (key, stranger) = (UpstreamKey::new("upstream-1"), UpstreamKey::new("stranger-1"));
        let namesake = UpstreamKey::new("upstream-1");
        let (bad, good) = (Upstream::start().await, Upstream::start().await);
        let cluster = Cluster::builder(mode).upstream(&bad).upstream(&good).trust(&key).start().await;
        let fixture = |seed| Fixture::new("vouched-1.0").seed(seed).build(&key);
        let unsigned = |seed| fixture(seed).changed(|narinfo| narinfo.signatures.clear());
        let lies = [
            ("no signature", unsigned(0)),
            ("a stranger's signature", unsigned(1).signed(&stranger)),
            ("another key of the trusted name", unsigned(2).signed(&namesake)),
            ("another size than was signed", fixture(3).changed(|narinfo| narinfo.nar_size += 1)),
            ("another reference than was signed",
                fixture(4).changed(|narinfo| narinfo.references.push(fixture(0).narinfo.store_path))),
            ("another hash than was signed",
                fixture(5).changed(|narinfo| narinfo.nar_hash = fixture(0).narinfo.nar_hash)),
        ];
        for (seed, (what, lie)) in lies.into_iter().enumerate() {
            bad.add(&lie);
            assert_refused(&cluster, &lie.narinfo_path(), what).await;
            good.add(&fixture(seed as u64));
            assert_served(&cluster, &fixture(seed as u64), what).await;
        }
        cluster.end().await;
    }

    async fn a_path_that_its_content_address_proves_needs_no_signature(mode) {
        let key = UpstreamKey::new("upstream-1");
        let proven = content_addressed();
        let lie = proven.changed(|narinfo| narinfo.nar_hash = Fixture::new("x").build(&key).narinfo.nar_hash);
        let (bad, good) = (Upstream::with(&[&lie]).await, Upstream::start().await);
        let cluster = Cluster::builder(mode).upstream(&bad).upstream(&good).trust(&key).start().await;
        assert_refused(&cluster, &lie.narinfo_path(), "a CA of another NAR").await;
        good.add(&proven);
        let narinfo = cluster.narinfo(&proven).await;
        assert_eq!((&narinfo.ca, narinfo.signatures.len()), (&proven.narinfo.ca, 1), "ours alone");
        assert_eq!(get(&cluster, &proven.nar_path()).await.body, proven.nar.to_bytes());
        cluster.end().await;
    }

    async fn a_narinfo_that_never_ends_is_given_up(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("endless-1.0").build(&key);
        let (bad, good) = (Upstream::start().await, Upstream::with(&[&fixture]).await);
        let endless = Body::from("X: ".repeat(1 << 20));
        bad.script(Rule::on("*.narinfo").body(endless).framing(ncps_tests::Framing::Chunked));
        let cluster = Cluster::builder(mode).upstream(&bad).upstream(&good).trust(&key).start().await;
        assert_served(&cluster, &fixture, "endless").await;
        cluster.end().await;
    }
}

/// `printf 'hello\n' > hello.txt && nix-store --add hello.txt`, as Nix 2.8 named it.
fn content_addressed() -> Fixture {
    let path = StorePath::parse("i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt").expect("a store path");
    let nar = Body::from(encode(&Node::file("hello\n")));
    let made = Fixture::new("x").compression(Compression::None).at(path).build_unsigned();
    let narinfo = NarInfo {
        nar_hash: NarHash(nar.sha256()),
        nar_size: nar.len(),
        file_hash: Some(FileHash(nar.sha256())),
        file_size: Some(nar.len()),
        url: format!("nar/{}.nar", nar.sha256().nix32()),
        ca: ContentAddress::parse(&format!("fixed:r:{}", nar.sha256())).ok(),
        ..made.narinfo
    };
    Fixture { narinfo, nar: nar.clone(), file: nar }
}

async fn assert_refused(cluster: &Cluster, path: &str, what: &str) {
    let told = get(cluster, path).await;
    assert!(matches!(told.status, 404 | 502), "{} for {what}: {}", told.status, told.text());
    assert!(told.body.len() < 100, "{what}: {}", told.text());
}

/// The path is served as its upstream signed it.
async fn assert_served(cluster: &Cluster, fixture: &Fixture, what: &str) {
    let told = get(cluster, &fixture.narinfo_path()).await;
    assert_eq!(told.status, 200, "{what}");
    let served = cluster.narinfo(fixture).await;
    assert_eq!(served.fingerprint(), fixture.narinfo.fingerprint(), "{what}");
    assert!(served.signatures.contains(&fixture.narinfo.signatures[0]), "{what}");
}

/// The fixture's narinfo made into a shape that differs from it.
fn malform(fixture: &Fixture, shape: fn(&str) -> Vec<u8>) -> Vec<u8> {
    let good = fixture.narinfo_text();
    let bad = shape(&good);
    assert_ne!(bad, good.as_bytes());
    bad
}

fn malformed() -> Vec<Shape> {
    vec![
        ("References without a space", |text| text.replace("References: ", "References:").into()),
        ("CRLF", |text| text.replace('\n', "\r\n").into()),
        ("no final newline", |text| text.trim_end().into()),
        ("HTML", |_| "<html><body><h1>It works!</h1></body></html>\n".into()),
        ("nothing", |_| Vec::new()),
        ("a blank line", |text| text.replacen('\n', "\n\n", 1).into()),
        ("half of it", |text| text[..text.len() / 2].into()),
        ("an empty deriver", |text| format!("{text}Deriver: \n").into()),
        ("a malformed signature", |text| format!("{text}Sig: no signature\n").into()),
        ("a second StorePath", |text| {
            format!("{text}{}\n", text.lines().next().expect("it begins with its path")).into()
        }),
        ("a size with a space", |text| text.replace("\nNarHash", " \nNarHash").into()),
        ("no NarHash", |text| without(text, "NarHash")),
        ("no NarSize", |text| without(text, "NarSize")),
        ("no URL", |text| without(text, "URL")),
        ("no StorePath", |text| without(text, "StorePath")),
        ("a compression of nobody", |text| text.replace("Compression: xz", "Compression: lrzip").into()),
        ("no text", |text| [text.as_bytes(), b"X: \xff\xfe\n"].concat()),
        ("more than a MiB", |text| format!("{text}X: {}\n", "x".repeat(1 << 20)).into()),
    ]
}

fn without(text: &str, key: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with(&format!("{key}:")));
    lines.flat_map(|line| [line, "\n"]).collect::<String>().into()
}
