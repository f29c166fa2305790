//! Snix's nar-bridge: the NAR's URL is its content (the root node in base64) with its size as a query, which must be
//! there. Nothing is compressed, FileSize is said without a FileHash, ranges are served without being offered, and
//! an error is a status without a word.

use data_encoding::BASE64URL_NOPAD;
use ncps_nix::Compression;

use crate::{Fixture, Page};

use super::text::Text;
use super::{AfterCut, Kind, Pen};

/// The only one of its kind.
pub const fn snix() -> Kind {
    Kind {
        name: "Snix nar-bridge",
        compressions: &[Compression::None],
        after_cut: AfterCut::Resumes,
        login: None,
        cache_info: "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 39\n",
        base: "",
        shape,
        text,
        settle,
        keep: Pen::here,
    }
}

/// The node of a directory: its digest (32 bytes, here the NAR's hash) and its size, as protobuf.
fn shape(fixture: &mut Fixture) {
    let mut node = vec![0x0a, 0x24, 0x12, 0x20];
    node.extend_from_slice(fixture.narinfo.nar_hash.0.as_bytes());
    node.extend_from_slice(&[0x18, 0x03]);
    let size = fixture.narinfo.nar_size;
    fixture.narinfo.url = format!("nar/snix-castore/{}?narsize={size}", BASE64URL_NOPAD.encode(&node));
    fixture.narinfo.file_hash = None;
}

fn text(fixture: &Fixture) -> String {
    let narinfo = &fixture.narinfo;
    Text::of(fixture)
        .line("FileSize", narinfo.nar_size)
        .nar(fixture)
        .references(&narinfo.references)
        .deriver(narinfo.deriver.as_ref())
        .signed(fixture)
}

fn settle(pen: &Pen) {
    pen.cache.require_queries(true);
    pen.says("/nix-cache-info", &[("Content-Type", "text/x-nix-cache-info")]);
    pen.says("/nar/*", &[("Cache-Control", "max-age=31536000, immutable")]);
    let bare = crate::Rule::on("*").without_header("ETag");
    pen.cache.script(bare.without_header("Accept-Ranges"));
    pen.cache.when_missing("*", Page::empty(404));
    pen.cache.when_missing("/nar/snix-castore/*", Page::empty(400));
    // The probe of an uploader; what it knows of no NAR has another name than it takes.
    pen.cache.when_missing("/nar/*.nar.*", Page::empty(401));
}
