//! Every kind of cache that ncps has to live with, each answering in its own style: how it names NAR files, what
//! its narinfos say and in which order, its headers, its absences, its redirects, its way with ranges.
//!
//! A kind is one function that makes a [`Kind`], and one row of [`kinds!`](crate::kinds). What is said of a server
//! was read in its source or in what its users saw. Absent on purpose: what tests do with them, uploads, and
//! everything that a client of a cache can't see.

mod attic;
mod cachix;
mod harmonia;
mod ncps;
mod niks3;
mod nix_serve;
mod nixos;
mod pen;
mod snix;
#[cfg(test)]
mod tests;
mod text;

use ncps_nix::Compression;

use crate::{Fixture, FixtureBuilder, UpstreamKey};

pub use attic::{attic, attic_chunked};
pub use cachix::{cachix, cachix_private};
pub use harmonia::{harmonia, harmonia_before_206};
pub use ncps::{ncps, ncps_0_4};
pub use niks3::{niks3, niks3_bucket};
pub use nix_serve::{nix_serve, nix_serve_ng, nix_serve_plackup};
pub use nixos::cache_nixos_org;
pub use pen::Pen;
pub use snix::snix;

/// Hands a macro the names of all kinds: `kinds!(each)` is `each! { cache_nixos_org … }`.
#[macro_export]
macro_rules! kinds {
    ($each:ident) => {
        $each! {
            cache_nixos_org
            cachix
            cachix_private
            attic
            attic_chunked
            harmonia
            harmonia_before_206
            nix_serve
            nix_serve_plackup
            nix_serve_ng
            niks3
            niks3_bucket
            snix
            ncps
            ncps_0_4
        }
    };
}

/// What becomes of a NAR whose first transfer was cut: what the kind makes possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterCut {
    /// The rest alone can be had.
    Resumes,
    /// It can be had again from its beginning.
    BeginsAnew,
    /// What comes for a Range can't be trusted: it has to be asked for without one.
    MustNotResume,
}

/// A kind of cache.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// What people call it.
    pub name: &'static str,
    /// How its NAR files are compressed, in turns.
    pub compressions: &'static [Compression],
    /// What a client can do when a NAR was cut.
    pub after_cut: AfterCut,
    /// Who is let in: user and password.
    pub login: Option<(&'static str, &'static str)>,
    /// What it says of itself at `nix-cache-info`.
    cache_info: &'static str,
    /// Where its paths begin.
    base: &'static str,
    /// How its narinfo differs from a plain one in what it says.
    shape: fn(&mut Fixture),
    /// The text of its narinfo.
    text: fn(&Fixture) -> String,
    /// How it answers, whatever it has.
    settle: fn(&Pen),
    /// How it keeps one path's NAR file.
    keep: fn(&Pen, &Fixture),
}

impl Kind {
    /// A path as this kind would have it, e.g. the `nth` of a test.
    pub fn fixture(&self, of: FixtureBuilder, nth: usize, key: &UpstreamKey) -> Fixture {
        let compression = self.compressions[nth % self.compressions.len()];
        let mut fixture = of.compression(compression).build(key);
        (self.shape)(&mut fixture);
        fixture
    }

    /// One of this kind that runs and has these.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if there is no port.
    pub async fn with(self, fixtures: &[&Fixture]) -> Pen {
        let pen = Pen::of(self).await;
        fixtures.iter().for_each(|fixture| pen.add(fixture));
        pen
    }
}
