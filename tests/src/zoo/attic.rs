//! Attic: caches below a path of its host, `nar/<store hash>.nar` whatever the compression, no fields of the file,
//! the NAR hash in base16, a System. A NAR of one chunk is sent on to the object store; one of several is put
//! together on the way, without a length and without ranges. Errors are JSON; a private cache gives strangers 401
//! and does not say how to do better.

use ncps_nix::Compression;

use crate::{Fixture, Framing, Page, Rule};

use super::text::Text;
use super::{AfterCut, Kind, Pen};

/// With an object store, small NARs.
pub const fn attic() -> Kind {
    Kind {
        name: "Attic",
        compressions: &[Compression::Zstd, Compression::Xz],
        after_cut: AfterCut::Resumes,
        login: None,
        cache_info: "WantMassQuery: 1\nStoreDir: /nix/store\nPriority: 41\n",
        base: "/zoo-cache",
        shape,
        text,
        settle,
        keep: |pen, fixture| pen.there(fixture, 307),
    }
}

/// Private, and with NARs of several chunks.
pub const fn attic_chunked() -> Kind {
    Kind {
        name: "a private Attic with chunks",
        after_cut: AfterCut::BeginsAnew,
        login: Some(("attic", "eyJhbGciOiJSUzI1NiJ9.e30")),
        settle: settle_chunked,
        keep: Pen::here,
        ..attic()
    }
}

fn shape(fixture: &mut Fixture) {
    fixture.narinfo.url = format!("nar/{}.nar", fixture.hash_part());
    (fixture.narinfo.file_hash, fixture.narinfo.file_size) = (None, None);
}

fn text(fixture: &Fixture) -> String {
    let narinfo = &fixture.narinfo;
    Text::of(fixture)
        .line("NarHash", format!("sha256:{}", narinfo.nar_hash.0.hex()))
        .line("NarSize", narinfo.nar_size)
        .references(&narinfo.references)
        .line("System", "x86_64-linux")
        .deriver(narinfo.deriver.as_ref())
        .signed(fixture)
}

fn settle(pen: &Pen) {
    let absent = r#"{"code":404,"error":"NoSuchObject","message":"The requested object does not exist."}"#;
    let stranger = r#"{"code":401,"error":"Unauthorized","message":"Unauthorized."}"#;
    pen.cache.when_missing("*", Page::new(404, "application/json", absent));
    pen.cache.when_unauthorized(Page::new(401, "application/json", stranger));
    pen.says("/*", &[("Via", "1.1 Caddy")]);
    pen.says(
        "/nix-cache-info",
        &[("Content-Type", "text/x-nix-cache-info"), ("X-Attic-Cache-Visibility", "public")],
    );
    pen.without_ranges("/*.narinfo");
    pen.open_bucket();
}

fn settle_chunked(pen: &Pen) {
    settle(pen);
    pen.without_ranges("/nar/*");
    let stream = Rule::on(&pen.path("/nar/*")).framing(Framing::Chunked);
    pen.cache.script(stream.header("Content-Type", "application/octet-stream"));
}
