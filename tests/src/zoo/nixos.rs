//! cache.nixos.org: an S3 bucket behind Fastly. xz, since December 2025 zstd, bzip2 from long ago. Queries are cut
//! off, the 403 of an absent object becomes a 404 whose body is `404`, and NARs come in segments with ranges.

use ncps_nix::Compression;

use crate::{Fixture, Page};

use super::{AfterCut, Kind, Pen};

/// The cache that everybody has.
pub const fn cache_nixos_org() -> Kind {
    Kind {
        name: "cache.nixos.org",
        compressions: &[Compression::Xz, Compression::Zstd, Compression::Bzip2],
        after_cut: AfterCut::Resumes,
        login: None,
        cache_info: "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n",
        base: "",
        shape: |_| {},
        text: Fixture::narinfo_text,
        settle,
        keep: Pen::here,
    }
}

fn settle(pen: &Pen) {
    pen.says(
        "*",
        &[
            ("Server", "AmazonS3"),
            ("Via", "1.1 varnish, 1.1 varnish"),
            ("Age", "86399"),
            ("X-Served-By", "cache-iad-kiad7000123-IAD, cache-fra-etou8220042-FRA"),
            ("X-Cache", "HIT, HIT"),
            ("X-Cache-Hits", "12, 1"),
            ("X-Timer", "S1790000000.123456,VS0,VE1"),
            ("Access-Control-Allow-Origin", "*"),
        ],
    );
    let absent = Page::new(404, "text/plain", "404").header("Retry-After", "0");
    pen.cache.when_missing("*", absent.header("Via", "1.1 varnish"));
}
