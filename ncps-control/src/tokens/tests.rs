//! The register on its own: names, ends, and what it keeps.

use std::time::Duration;

use ncps_proto::Expiry;
use tempfile::TempDir;

use super::*;

const NOW: UnixTime = UnixTime(1_000_000);

async fn register(folder: &TempDir) -> Tokens {
    let db = Db::open(&folder.path().join("db.sqlite"), NOW).await.expect("opens");
    Tokens::open(&db).await.expect("read")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn new(name: &str, scopes: &[Scope]) -> NewToken {
    let (name, scopes) = (name.to_owned(), scopes.to_vec());
    NewToken { name, scopes, edges: Vec::new(), expiry: Expiry::Never }
}

#[tokio::test]
async fn they_outlive_the_process_and_their_secrets_are_nowhere() {
    let folder = folder();
    let tokens = register(&folder).await;
    let expiry = Expiry::After(Duration::from_secs(60));
    let edges = vec!["b".to_owned(), "a b".to_owned(), "b".to_owned()];
    let bound = NewToken { edges, expiry, ..new("ci", &[Scope::Write, Scope::Read, Scope::Write]) };
    let made = tokens.create(bound, NOW).await.expect("made");
    assert_eq!(
        (&made.token.scopes[..], made.token.expires_at),
        (&[Scope::Read, Scope::Write][..], Some(1_000_060))
    );
    assert_eq!(made.token.edges, ["a b", "b"]);
    let gone = tokens.create(new("gone", &[Scope::Edge]), NOW).await.expect("made");
    tokens.revoke("gone", NOW).await.expect("revoked");
    let listed = tokens.list();
    drop(tokens);

    let tokens = register(&folder).await;
    let by_name = |mut all: Vec<TokenInfo>| {
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    };
    assert_eq!(by_name(tokens.list()), by_name(listed));
    let found = tokens.of(made.secret.reveal().as_bytes()).expect("it is known");
    assert_eq!(found.info, made.token);
    assert!(tokens.of(gone.secret.reveal().as_bytes()).expect("known").is_revoked());
    assert!(tokens.of(b"ncps_something").is_none());
    for file in std::fs::read_dir(folder.path()).expect("readable") {
        let bytes = std::fs::read(file.expect("listed").path()).expect("read");
        for secret in [&made.secret, &gone.secret] {
            let random = &secret.reveal().as_bytes()[5..];
            assert!(!bytes.windows(random.len()).any(|window| window == random));
        }
    }
}

#[tokio::test]
async fn a_name_is_one_tokens_until_that_is_revoked() {
    let tokens = register(&folder()).await;
    let first = tokens.create(new("ci", &[Scope::Read]), NOW).await.expect("made").token;
    let again = tokens.create(new("ci", &[Scope::Write]), NOW).await.expect_err("taken");
    assert_eq!(again.code(), Code::Invalid);
    tokens.revoke("ci", NOW).await.expect("revoked");
    let second = tokens.create(new("ci", &[Scope::Write]), NOW).await.expect("free again").token;
    assert_eq!(tokens.revoke(&first.id, NOW).await.expect_err("over").code(), Code::Invalid);
    assert_eq!(tokens.revoke(&second.id, NOW).await.expect("by its id").name, "ci");
    assert_eq!(tokens.revoke("ci", NOW).await.expect_err("none").code(), Code::Absent);
    assert_eq!(
        tokens.create(new(&second.id, &[Scope::Read]), NOW).await.expect_err("an id").code(),
        Code::Invalid
    );
}

#[tokio::test]
async fn what_can_do_nothing_is_not_made() {
    let tokens = register(&folder()).await;
    let past = |expiry| NewToken { expiry, ..new("x", &[Scope::Read]) };
    let at = |edge: &str, scope| NewToken { edges: vec![edge.to_owned()], ..new("x", &[scope]) };
    let bad = [
        new("x", &[]),
        new("", &[Scope::Read]),
        new("-x", &[Scope::Read]),
        new("x y", &[Scope::Read]),
        new(&"x".repeat(65), &[Scope::Read]),
        new("cache-get-token", &[Scope::Read]),
        past(Expiry::After(Duration::ZERO)),
        past(Expiry::At(NOW.0)),
        at("", Scope::Read),
        at("a\nb", Scope::Read),
        at("a", Scope::Admin),
        new("x", &[Scope::Durable]),
    ];
    for new in bad {
        let error = tokens.create(new.clone(), NOW).await.expect_err("refused");
        assert_eq!(error.code(), Code::Invalid, "{new:?}");
    }
    assert!(tokens.list().is_empty());
}

#[tokio::test]
async fn edges_hear_of_what_counts_over_http() {
    let tokens = register(&folder()).await;
    tokens.create(new("admin", &[Scope::Admin, Scope::Edge]), NOW).await.expect("made");
    let both = tokens.create(new("both", &[Scope::Edge, Scope::Sign]), NOW).await.expect("made");
    let told = tokens.for_edges();
    assert_eq!(told.iter().map(|token| token.id.as_str()).collect::<Vec<_>>(), ["both"]);
    assert_eq!(tokens::find(&told, both.secret.reveal().as_bytes()), Some(&told[0]));
    assert!(tokens.any(Scope::Admin) && !tokens.any(Scope::Read));
    tokens.revoke("both", NOW).await.expect("revoked");
    assert!(tokens.for_edges().is_empty() && !tokens.any(Scope::Sign));
}

#[tokio::test]
async fn who_uses_one_that_ends_is_cut_off() {
    let tokens = register(&folder()).await;
    let expiry = Expiry::After(Duration::from_secs(60));
    let short = tokens.create(NewToken { expiry, ..new("short", &[Scope::Edge]) }, NOW).await.expect("made");
    let long = tokens.create(new("long", &[Scope::Edge]), NOW).await.expect("made");
    let over = |made: &MadeToken| tokens.of(made.secret.reveal().as_bytes()).expect("known").over.clone();
    let (short, long) = (over(&short), over(&long));
    tokens.expire(NOW.plus_seconds(59));
    assert!(!short.is_cancelled());
    tokens.expire(NOW.plus_seconds(60));
    assert!(short.is_cancelled() && !long.is_cancelled());
    tokens.revoke("long", NOW).await.expect("revoked");
    assert!(long.is_cancelled());
}

#[tokio::test]
async fn past_the_limit_who_was_revoked_makes_room_and_else_it_is_refused() {
    let tokens = register(&folder()).await;
    let entry = |n: usize| {
        let info = TokenInfo {
            id: n.to_string(),
            name: format!("t{n}"),
            scopes: vec![Scope::Read],
            edges: Vec::new(),
            created_at: NOW.0,
            expires_at: None,
            revoked_at: None,
        };
        Entry::new(info, Sha256Hash::of(&n.to_be_bytes()))
    };
    tokens.entries.write().extend((0..MOST).map(entry));
    let refused = tokens.create(new("more", &[Scope::Read]), NOW).await.expect_err("too many");
    assert_eq!(refused.code(), Code::Overloaded);
    tokens.revoke("t7", NOW).await.expect("revoked");
    tokens.create(new("more", &[Scope::Read]), NOW).await.expect("there is room");
    let listed = tokens.list();
    assert!(listed.len() == MOST && !listed.iter().any(|token| token.name == "t7"));
}
