//! The ncps that is written in Go: its `nix-cache-info` ends without a newline, NARs come in chunks while they are
//! being fetched, and nobody can resume them. What its upstream had uncompressed it offers without fields of the
//! file. Version 0.4 answers a HEAD with 204.

use ncps_nix::Compression;

use crate::{Fixture, Framing, Page, Rule};

use super::{AfterCut, Kind, Pen};

/// Of 2026.
pub const fn ncps() -> Kind {
    Kind {
        name: "ncps in Go",
        compressions: &[Compression::Zstd, Compression::None],
        after_cut: AfterCut::BeginsAnew,
        login: None,
        cache_info: "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 10",
        base: "",
        shape,
        text: Fixture::narinfo_text,
        settle,
        keep: Pen::here,
    }
}

/// Of 2025.
pub const fn ncps_0_4() -> Kind {
    Kind {
        name: "ncps 0.4 in Go",
        compressions: &[Compression::Xz],
        shape: |_| {},
        settle: |pen| {
            settle(pen);
            pen.cache.script(Rule::on("*").method("HEAD").status(204));
        },
        ..ncps()
    }
}

fn shape(fixture: &mut Fixture) {
    if fixture.narinfo.compression == Compression::None {
        (fixture.narinfo.file_hash, fixture.narinfo.file_size) = (None, None);
    }
}

fn settle(pen: &Pen) {
    pen.without_ranges("*");
    pen.says("/nix-cache-info", &[("Content-Type", "text/plain; charset=utf-8")]);
    pen.cache.script(Rule::on("/nar/*").method("GET").framing(Framing::Chunked));
    pen.cache.when_missing("*", Page::new(404, "text/plain; charset=utf-8", "Not Found\n"));
}
