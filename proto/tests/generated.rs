//! The generated code is checked in, so that ordinary builds need no compiler for proto files. This test
//! generates it again: it fails where the two differ, and rewrites the file when `UPDATE_GENERATED` is set.

use std::path::Path;

use prost::Message;

const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/gen");
/// The code, and what reflection tells of the services.
const FILES: [&str; 2] = ["ncps.v1.rs", "ncps.v1.bin"];

fn generate(out: &Path) {
    let root = env!("CARGO_MANIFEST_DIR");
    let files = protox::compile(proto_files(), [root]).expect("the proto files are valid");
    let mut bare = files.clone();
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);
    std::fs::write(out.join("ncps.v1.bin"), bare.encode_to_vec()).expect("written");
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
    let fresh = FILES.map(|name| std::fs::read(out.join(name)).expect("the generator wrote its file"));
    std::fs::remove_dir_all(&out).expect("the temporary directory can be removed");
    for (name, fresh) in FILES.iter().zip(fresh) {
        let checked_in = Path::new(CHECKED_IN).join(name);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&checked_in, &fresh).expect("the checked-in file can be written");
        }
        let is_fresh = std::fs::read(checked_in).is_ok_and(|checked_in| checked_in == fresh);
        assert!(is_fresh, "{name}: run UPDATE_GENERATED=1 cargo test -p ncps-proto --test generated");
    }
}
