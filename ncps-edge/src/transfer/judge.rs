//! Whether what came is what was named: compared by its hash, by what it decodes to where that is wrong, and proven
//! before it is kept. Who brought wrong bytes is remembered.

use std::sync::Arc;

use ncps_nix::{Compression, FileHash, NarFileName, NarHash};
use ncps_proto::{Code, Commit, Error, NarFacts, Result};

use super::download::{Download, Downloaded, Trouble};
use super::engine::Engine;
use super::evict::Epoch;
use super::plan::{Plan, Source};
use crate::metrics::{Ended, Reason};
use crate::upstream::UpstreamError;

/// Compares what came with what was named.
pub(super) async fn judge(
    engine: &Engine,
    download: &mut Download,
    source: &Source,
    plan: &Plan,
) -> std::result::Result<NarFileName, Trouble> {
    download.ended();
    let hash = download.hash();
    if hash == plan.name.hash {
        return Ok(plan.name);
    }
    if let Some(true_name) = right_nar_of_wrong_name(download, hash, plan).await {
        if plan.recipe.is_some() {
            tracing::info!(nar = %plan.name, %true_name, "another encoder makes another file of the same NAR");
            return Ok(true_name);
        }
        tracing::warn!(nar = %plan.name, %true_name, source = source.label(),
            "the FileHash was wrong, the NAR is right: kept under its true name");
        engine.metrics().integrity.inc(Reason::Corrected);
        return Ok(true_name);
    }
    blame(engine, download, source, plan);
    Err(UpstreamError::WrongBytes.into())
}

/// Remembers for the next time that wrong bytes came, and from whom.
pub(super) fn blame(engine: &Engine, download: &Download, source: &Source, plan: &Plan) {
    // Where several sources brought bytes nobody can tell yet who was wrong.
    if download.is_of_one_source() {
        engine.distrust(source);
    }
    engine.distrust_file(plan.name);
    engine.counters().wrong_bytes();
}

/// The metadata may be wrong and not the bytes: decoded, they tell.
async fn right_nar_of_wrong_name(
    download: &mut Download,
    hash: FileHash,
    plan: &Plan,
) -> Option<NarFileName> {
    let expected = plan.nar?;
    let proven = download.proof().await?.ok()?;
    (proven == expected).then_some(NarFileName { hash, compression: plan.name.compression })
}

pub(super) fn proved_wrong(engine: &Engine, error: &UpstreamError) {
    let reason = match error {
        UpstreamError::WrongBytes => Reason::FileHash,
        UpstreamError::Undecodable(_) => Reason::Undecodable,
        UpstreamError::WrongLength { .. } | UpstreamError::TooMuch => Reason::Length,
        _ => return,
    };
    engine.metrics().integrity.inc(reason);
}

/// Proves the NAR where that is still open, and commits. False where it is right and not kept.
pub(super) async fn settle(
    engine: &Arc<Engine>,
    downloaded: Downloaded,
    name: NarFileName,
    plan: &Plan,
    source: &Source,
    began: Epoch,
) -> Result<bool> {
    let Downloaded { spool, prover, size, hash, .. } = downloaded;
    let facts = match (name.compression, prover) {
        (Compression::None, _) => Ok(NarFacts { hash: NarHash(hash.0), size }),
        (_, Some(prover)) => prover.facts().await.map_err(|e| e.to_string()),
        // Decoded already, to find out the true name.
        (_, None) => plan.nar.ok_or_else(|| "its proof is missing".to_owned()),
    };
    let facts = facts.and_then(|facts| match plan.nar {
        Some(expected) if expected != facts => Err(format!("it decodes to {facts:?}, not {expected:?}")),
        _ => Ok(facts),
    });
    match facts {
        Ok(_) if source.is_peer() && !plan.ours && !engine.keeps_peer_copies() => {
            tracing::debug!(nar = %name, source = source.label(), "a copy of a peer's NAR is not kept");
            engine.metrics().ended.inc(Ended::NotKept);
            Ok(false)
        }
        Ok(nar) => {
            let meanwhile = engine.lookups().alone().publications(plan.name);
            let mut commit = Commit {
                name,
                asked_as: (name != plan.name).then_some(plan.name),
                file_size: size,
                nar,
                origin: source.origin().cloned(),
                uploaded: false,
                recipe: None,
                meanwhile,
            };
            if plan.recipe.is_some() {
                commit.recipe = commit.asked_as.take().and_then(|_| plan.made_now());
                commit.origin = None;
            }
            Ok(engine.commit(spool, commit, began).await)
        }
        Err(reason) => {
            engine.distrust(source);
            engine.counters().wrong_bytes();
            engine.metrics().integrity.inc(Reason::NarHash);
            tracing::error!(nar = %name, source = source.label(), reason, "a NAR is not what was signed: not kept");
            Err(Error::new(Code::UpstreamFailed, reason))
        }
    }
}
