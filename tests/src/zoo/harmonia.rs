//! Harmonia: serves a store as it is, so nothing is compressed, and the URL says both hashes, one in its query. The
//! file's fields repeat the NAR's. Since August 2026 everything over 255 bytes comes as `Content-Encoding: zstd` to
//! who takes it, in chunks; parts never do. Before, a part came with status 200 and a `Content-Encoding` that is
//! none.

use ncps_nix::Compression;

use crate::{Fixture, Framing, Page, Rule};

use super::text::Text;
use super::{AfterCut, Kind, Pen};

/// As it is since August 2026.
pub const fn harmonia() -> Kind {
    Kind {
        name: "Harmonia",
        compressions: &[Compression::None],
        after_cut: AfterCut::Resumes,
        login: None,
        cache_info: "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n",
        base: "",
        shape,
        text,
        settle: |pen| {
            settle(pen);
            for pattern in ["*.narinfo", "/nar/*"] {
                let rule = Rule::on(pattern).method("GET").ranged(false);
                pen.cache.script(rule.zstd_if_accepted());
            }
        },
        keep: Pen::here,
    }
}

/// As it was until then.
pub const fn harmonia_before_206() -> Kind {
    Kind {
        name: "Harmonia before August 2026",
        after_cut: AfterCut::MustNotResume,
        cache_info: "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 50\n",
        settle: |pen| {
            settle(pen);
            let rule = Rule::on("/nar/*").ranged(true).status(200);
            pen.cache.script(rule.header("Content-Encoding", "none"));
        },
        ..harmonia()
    }
}

fn shape(fixture: &mut Fixture) {
    let nar = fixture.narinfo.nar_hash.0.nix32();
    fixture.narinfo.url = format!("nar/{nar}.nar?hash={}", fixture.hash_part());
}

fn text(fixture: &Fixture) -> String {
    let narinfo = &fixture.narinfo;
    let text = Text::of(fixture).file(fixture).nar(fixture);
    text.references_if_any(&narinfo.references).deriver(narinfo.deriver.as_ref()).signed(fixture)
}

fn settle(pen: &Pen) {
    pen.cache.require_queries(true);
    pen.says("/nix-cache-info", &[("Content-Type", "text/x-nix-cache-info")]);
    pen.says("*.narinfo", &[("Cache-Control", "max-age=86400")]);
    let nar = [("Content-Type", "application/x-nix-archive"), ("Cache-Control", "max-age=31536000")];
    pen.says("/nar/*", &nar);
    for pattern in ["/nar/*", "*.narinfo"] {
        pen.cache.script(Rule::on(pattern).without_header("ETag").framing(Framing::Length));
    }
    pen.cache.script(Rule::on("*.narinfo").ignore_range().without_header("Accept-Ranges"));
    let absent = |body| Page::new(404, "text/plain; charset=utf-8", body).header("Cache-Control", "no-store");
    pen.cache.when_missing("*", Page::empty(404));
    pen.cache.when_missing("*.narinfo", absent("missed hash"));
    pen.cache.when_missing("/nar/*", absent("missing outhash"));
}
