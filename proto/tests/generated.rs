//! The generated code is checked in, so that ordinary builds need no compiler for proto files. This test
//! generates it again: it fails where the two differ, and rewrites the file when `UPDATE_GENERATED` is set.

use std::path::Path;

const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/gen/ncps.v1.rs");

fn generate(out: &Path) {
    let root = env!("CARGO_MANIFEST_DIR");
    let files = protox::compile(proto_files(), [root]).expect("the proto files are valid");
    tonic_prost_build::configure()
        .out_dir(out)
        .build_transport(false)
        .compile_fds(files)
        .expect("code can be generated");
}

/// In the order of their names, so that the result is always the same.
fn proto_files() -> Vec<String> {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/ncps/v1")).expect("a folder");
    let names = folder.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"));
    let mut files: Vec<_> = names.map(|name| format!("ncps/v1/{name}")).collect();
    files.sort();
    files
}

#[test]
fn generated_code_is_fresh() {
    let out = std::env::temp_dir().join(format!("ncps-generated-{}", std::process::id()));
    std::fs::create_dir_all(&out).expect("a temporary directory can be made");
    generate(&out);
    let fresh = std::fs::read_to_string(out.join("ncps.v1.rs")).expect("the generator wrote its file");
    std::fs::remove_dir_all(&out).expect("the temporary directory can be removed");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(CHECKED_IN, &fresh).expect("the checked-in file can be written");
    }
    let checked_in = std::fs::read_to_string(CHECKED_IN).unwrap_or_default();
    assert!(checked_in == fresh, "run: UPDATE_GENERATED=1 cargo test -p ncps-proto --test generated");
}
