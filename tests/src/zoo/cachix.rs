//! Cachix: NARs under opaque names (a UUID, or the file's hash in base16, as its FileHash is), sent on to an object
//! store on another host by a query that expires; Cloudflare before it. A private cache wants its token as the
//! password of Basic, and speaks text where it is missing.

use ncps_nix::Compression;

use crate::{Fixture, Page};

use super::text::Text;
use super::{AfterCut, Kind, Pen};

/// A public cache.
pub const fn cachix() -> Kind {
    Kind {
        name: "Cachix",
        compressions: &[Compression::Zstd, Compression::Xz],
        after_cut: AfterCut::Resumes,
        login: None,
        cache_info: "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n",
        base: "",
        shape,
        text,
        settle,
        keep: |pen, fixture| pen.there(fixture, 302),
    }
}

/// One for who has its token.
pub const fn cachix_private() -> Kind {
    Kind { name: "a private Cachix", login: Some(("", "eyJhbGciOiJIUzI1NiJ9.e30")), ..cachix() }
}

/// zstd came with names that say nothing.
fn shape(fixture: &mut Fixture) {
    let hex = fixture.file_hash().0.hex();
    fixture.narinfo.url = match fixture.narinfo.compression {
        Compression::Zstd => format!("nar/{}.nar.zst", uuid(&hex)),
        _ => format!("nar/{hex}.nar.xz"),
    };
}

fn uuid(hex: &str) -> String {
    let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]);
    format!("{a}-{b}-4{c}-a{d}-{e}")
}

fn text(fixture: &Fixture) -> String {
    let narinfo = &fixture.narinfo;
    let text = Text::of(fixture)
        .line("FileHash", format!("sha256:{}", fixture.file_hash().0.hex()))
        .line("FileSize", fixture.file.len())
        .nar(fixture)
        .references(&narinfo.references);
    let text = match &narinfo.deriver {
        Some(deriver) => text.line("Deriver", deriver),
        None => text.line("Deriver", "unknown-deriver"),
    };
    text.signed(fixture)
}

fn settle(pen: &Pen) {
    let cloudflare =
        [("Server", "cloudflare"), ("CF-Cache-Status", "DYNAMIC"), ("CF-RAY", "7542ca57dd6d82b1-FRA")];
    pen.says("*", &cloudflare);
    pen.says("*.narinfo", &[("Cache-Control", "public, max-age=14400")]);
    pen.says("/nar/*", &[("Cache-Control", "no-store")]);
    pen.cache.when_missing("*", Page::new(404, "text/plain; charset=utf-8", ""));
    let stranger = "Binary cache zoo doesn't exist or you're not authorized to access.\n";
    pen.cache.when_unauthorized(Page::new(401, "text/plain; charset=utf-8", stranger));
    pen.open_bucket();
}
