//! How upstreams are reached: logins, authorities, targets, and who may be unsigned.

use super::*;

#[test]
fn what_upstreams_have_in_common() {
    let outward = |args: &[&str]| good(args).settings.outward;
    assert_eq!(outward(&[]), Default::default());
    let allowed =
        outward(&["--upstream-allow-target=10.0.0.0/8,Store.lan", "--upstream-allow-target=::1"]).allowed;
    assert_eq!(
        allowed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "store.lan", "::1/128"]
    );
    assert_eq!(problems(&["--upstream-allow-target=http://a"]).len(), 1);
    assert_eq!(problems(&["--upstream-ca-file=/dev/null"]).len(), 1, "no certificate");
    assert_eq!(problems(&["--upstream-ca-file=relative", "--netrc-file=relative"]).len(), 2);
    let after = |text| good(&[&format!("--upstream-give-up-after={text}")]).settings.give_up_after;
    assert_eq!(good(&[]).settings.give_up_after, Some(Duration::from_secs(300)));
    assert_eq!((after("never"), after("0s")), (None, Some(Duration::ZERO)));
    assert!(problems(&["--upstream-give-up-after=soon"])[0].contains("or never"));
}

#[test]
fn unsigned_upstreams_are_named_by_their_urls() {
    let upstreams =
        ["--upstream-cache=https://me:pw@a.example?priority=1", "--upstream-cache=https://b.example"];
    let read = |url: &str| {
        let flag = format!("--allow-unsigned-upstream={url}");
        read(&[&upstreams[..], &[&*flag]].concat(), &[STATE])
    };
    for url in ["https://a.example", "https://A.example/"] {
        let upstreams = read(url).expect("usable").settings.upstreams;
        assert_eq!(upstreams.iter().map(|u| u.unsigned).collect::<Vec<_>>(), [true, false], "{url}");
    }
    for url in ["https://c.example", "a.example"] {
        assert_eq!(read(url).expect_err("unknown").problems().len(), 1, "{url}");
    }
    let both = ["--upstream-cache=nonsense", "--allow-unsigned-upstream=https://a.example"];
    assert!(matches!(&*problems(&both), [one] if one.starts_with("--upstream-cache ")), "it may be that one");
}

#[test]
fn a_netrc_file_is_read_where_it_is() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join(".netrc");
    let config =
        |args: &[&str]| read(args, &[STATE, ("HOME", &home.path().to_string_lossy())]).expect("usable");
    assert_eq!(config(&[]).warnings, Vec::<String>::new(), "nobody said that there is one");
    let nobody = read(&[], &[STATE, ("HOME", "/dev/null")]).expect("usable");
    assert_eq!(nobody.warnings, Vec::<String>::new());
    std::fs::write(&path, "machine a.example login me password hunter2").expect("room");
    let netrc = config(&[]).settings.outward.netrc;
    assert_eq!(netrc[0].host.as_deref(), Some("a.example"));
    assert!(!format!("{netrc:?}").contains("hunter2"));
    let flag = format!("--netrc-file={}", path.display());
    assert_eq!(good(&[&flag]).settings.outward.netrc, netrc);
    std::fs::write(&path, "machine a.example password \"hunter2").expect("room");
    for config in [config(&[]), good(&[&flag]), good(&["--netrc-file=/dev/null/absent"])] {
        let warnings = config.warnings;
        assert!(matches!(&*warnings, [one] if one.contains("asked without a login")), "{warnings:?}");
        assert!(!warnings.concat().contains("hunter2"), "{warnings:?}");
    }
}
