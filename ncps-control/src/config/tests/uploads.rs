//! What clients may upload: by flag, by variable and by key, and what is refused.

use ncps_proto::Writing;

use super::*;
use crate::Admission;

/// Two keys, as a list of the command line or a variable.
const KEYS: &str = "ci-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=,\
                    home:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";

/// By a file with this text.
fn by_file(text: &str) -> ControlConfig {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("ncps.yaml");
    std::fs::write(&path, text).expect("written");
    read_with(&[], &[STATE], Some(&path)).expect("usable")
}

fn keys() -> Vec<PublicKey> {
    KEYS.split(',').map(|key| PublicKey::parse(key).expect("a key")).collect()
}

#[test]
fn by_default_nobody_writes_and_only_who_is_trusted_vouches() {
    let config = good(&[]);
    assert_eq!(config.admission, Admission::default());
    let nobody = Writing { put: false, delete: false, require_token: false, max_upload_bytes: 16 << 30 };
    assert_eq!(config.settings.writing, nobody);
}

#[test]
fn who_vouches_for_uploads_is_said_by_flag_variable_or_key() {
    let strict = Admission { keys: keys(), only_trusted: true, anything: false };
    let keys = format!("--cache-trusted-upload-key={KEYS}");
    assert_eq!(good(&[&keys, "--cache-require-trusted-signature"]).admission, strict);
    let each: Vec<_> = KEYS.split(',').map(|key| format!("--cache-trusted-upload-key={key}")).collect();
    assert_eq!(good(&[&each[0], "--cache-require-trusted-signature=true", &each[1]]).admission, strict);
    let vars = [("CACHE_TRUSTED_UPLOAD_KEYS", KEYS), ("CACHE_REQUIRE_TRUSTED_SIGNATURE", "true")];
    assert_eq!(read(&[], &[STATE, vars[0], vars[1]]).expect("usable").admission, strict);
    let (first, second) = KEYS.split_once(',').expect("two");
    let file = format!(
        "cache:\n  require-trusted-signature: true\n  trusted-upload-keys: [\"{first}\", \"{second}\"]\n"
    );
    assert_eq!(by_file(&file).admission, strict);
    let lax = Admission { anything: true, ..Admission::default() };
    assert_eq!(good(&["--cache-sign-unsigned-uploads"]).admission, lax);
    let vars = [STATE, ("CACHE_SIGN_UNSIGNED_UPLOADS", "true")];
    assert_eq!(read(&[], &vars).expect("usable").admission, lax);
    assert_eq!(by_file("cache:\n  sign-unsigned-uploads: true\n").admission, lax);
}

#[test]
fn who_writes_and_how_much_is_said_by_flag_variable_or_key() {
    let told = Writing { put: false, delete: false, require_token: true, max_upload_bytes: 3 << 20 };
    let writing = |config: ControlConfig| config.settings.writing;
    assert_eq!(writing(good(&["--cache-require-token", "--max-upload-size=3M"])), told);
    let vars = [STATE, ("CACHE_REQUIRE_TOKEN", "true"), ("MAX_UPLOAD_SIZE", "3M")];
    assert_eq!(writing(read(&[], &vars).expect("usable")), told);
    assert_eq!(writing(by_file("max-upload-size: 3M\ncache:\n  require-token: true\n")), told);
}

#[test]
fn what_says_nothing_of_uploads_or_two_things_is_refused() {
    let strict_and_lax = ["--cache-require-trusted-signature", "--cache-sign-unsigned-uploads"];
    let cases: [(&[&str], &str); 5] = [
        (&strict_and_lax, "contradicts --cache-require-trusted-signature"),
        (&["--cache-trusted-upload-key=ci-1"], "--cache-trusted-upload-key"),
        (&["--cache-trusted-upload-key=ci-1:AAAA"], "--cache-trusted-upload-key"),
        (&["--max-upload-size=3"], "unit"),
        (&["--cache-require-token=perhaps"], "--cache-require-token"),
    ];
    for (args, expected) in cases {
        let problems = problems(args);
        assert!(matches!(&*problems, [one] if one.contains(expected)), "{args:?}: {problems:?}");
    }
    let good_and_bad = format!("--cache-trusted-upload-key={KEYS},nonsense");
    assert_eq!(problems(&[&good_and_bad]).len(), 1, "the good ones don't make up for it");
}
