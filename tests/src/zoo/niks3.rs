//! niks3: zstd NARs in an object store, named by the NAR's hash, nothing said of the file. Narinfos lie there
//! compressed with zstd: its read proxy decodes them for who does not take that, a public bucket does not ask.

use ncps_nix::Compression;

use crate::{Fixture, Framing, Page, Rule};

use super::text::Text;
use super::{AfterCut, Kind, Pen};

/// Read through its proxy, which sends on who wants a NAR.
pub const fn niks3() -> Kind {
    Kind {
        name: "niks3",
        compressions: &[Compression::Zstd],
        after_cut: AfterCut::Resumes,
        login: None,
        cache_info: "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n",
        base: "",
        shape,
        text,
        settle: settle_proxy,
        keep: |pen, fixture| pen.there(fixture, 307),
    }
}

/// Read from the bucket itself, which has all things as they were put there.
pub const fn niks3_bucket() -> Kind {
    Kind { name: "the bucket of niks3", settle: settle_bucket, keep: Pen::here, ..niks3() }
}

fn shape(fixture: &mut Fixture) {
    fixture.narinfo.url = format!("nar/{}.nar.zst", fixture.narinfo.nar_hash.0.nix32());
    (fixture.narinfo.file_hash, fixture.narinfo.file_size) = (None, None);
}

fn text(fixture: &Fixture) -> String {
    let narinfo = &fixture.narinfo;
    let text = Text::of(fixture).nar(fixture).references(&narinfo.references);
    text.deriver(narinfo.deriver.as_ref()).signed(fixture)
}

fn settle_proxy(pen: &Pen) {
    pen.says(
        "*",
        &[("X-Content-Type-Options", "nosniff"), ("Last-Modified", "Sat, 01 Aug 2026 00:00:00 GMT")],
    );
    pen.says("/nar/*", &[("Cache-Control", "no-store"), ("Content-Type", "text/html; charset=utf-8")]);
    // Decoded on the way it has no length.
    let narinfo = Rule::on("*.narinfo").framing(Framing::Chunked).ignore_range();
    pen.cache.script(narinfo.without_header("Accept-Ranges").zstd_if_accepted());
    let absent = Page::new(404, "text/plain; charset=utf-8", "404 page not found\n");
    pen.cache.when_missing("*", absent.header("X-Content-Type-Options", "nosniff"));
    pen.open_bucket();
}

fn settle_bucket(pen: &Pen) {
    pen.says("*", &[("Server", "AmazonS3"), ("x-amz-request-id", "4YQ2V1CKHVT5XQ6Z")]);
    pen.cache.script(Rule::on("*.narinfo").zstd());
    let absent = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code></Error>";
    pen.cache.when_missing("*", Page::new(403, "application/xml", absent));
}
