//! nix-serve (Perl) and nix-serve-ng (Haskell): `nar/<store hash>-<NAR hash>.nar`, nothing compressed, nothing said
//! of the file, no References where there are none, all of it text/plain without ranges. The first says how long a
//! NAR is; under `plackup` it speaks HTTP/1.0, and its old versions say no length. The second sends chunks, and
//! takes a name of a shape that it does not know for a bad request.

use ncps_nix::Compression;

use crate::{Fixture, Framing, Page, Rule};

use super::text::Text;
use super::{AfterCut, Kind, Pen};

/// Under Starman.
pub const fn nix_serve() -> Kind {
    Kind {
        name: "nix-serve",
        compressions: &[Compression::None],
        after_cut: AfterCut::BeginsAnew,
        login: None,
        cache_info: "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n",
        base: "",
        shape,
        text,
        settle,
        keep: Pen::here,
    }
}

/// Old, and under plackup: the end of the connection is the end of the NAR.
pub const fn nix_serve_plackup() -> Kind {
    Kind {
        name: "nix-serve of HTTP/1.0",
        settle: |pen| {
            settle(pen);
            pen.cache.script(Rule::on("*").http_1_0());
            pen.cache.script(Rule::on("/nar/*").framing(Framing::Close));
        },
        ..nix_serve()
    }
}

/// The other one.
pub const fn nix_serve_ng() -> Kind {
    Kind {
        name: "nix-serve-ng",
        settle: |pen| {
            settle(pen);
            pen.cache.script(Rule::on("/nar/*").framing(Framing::Chunked));
            pen.cache.when_missing("/nar/*.nar", Page::new(400, "text/plain", "Invalid path.\n"));
            pen.cache.when_missing("/nar/*-*.nar", no_such_path());
        },
        ..nix_serve()
    }
}

fn shape(fixture: &mut Fixture) {
    let nar = fixture.narinfo.nar_hash.0.nix32();
    fixture.narinfo.url = format!("nar/{}-{nar}.nar", fixture.hash_part());
    (fixture.narinfo.file_hash, fixture.narinfo.file_size) = (None, None);
}

fn text(fixture: &Fixture) -> String {
    let narinfo = &fixture.narinfo;
    let text = Text::of(fixture).nar(fixture).references_if_any(&narinfo.references);
    text.deriver(narinfo.deriver.as_ref()).signed(fixture)
}

fn settle(pen: &Pen) {
    pen.without_ranges("*");
    pen.says("/nix-cache-info", &[("Content-Type", "text/plain")]);
    pen.says("/nar/*", &[("Content-Type", "text/plain")]);
    pen.cache.when_missing("*", Page::new(404, "text/plain", "File not found.\n"));
    pen.cache.when_missing("*.narinfo", no_such_path());
}

fn no_such_path() -> Page {
    Page::new(404, "text/plain", "No such path.\n")
}
