//! What a look at a stored file taught: its NAR's facts, or that nobody has it any more.

use std::sync::Arc;

use ncps_nix::NarFileName;
use ncps_proto::{Heard, NarFacts, Result};

use super::Control;
use crate::record::{facts_of, file_of};

impl Control {
    /// An edge decoded a file that it stores. Narinfos that say it is another NAR are forgotten. What contradicts an
    /// earlier proof is not believed.
    pub(super) async fn proven(&self, name: NarFileName, file_size: u64, nar: NarFacts) -> Result<()> {
        self.index.admit().await?;
        let turn = self.index.lock_files([name]).await;
        let known = self.index.file(name).await?;
        let Some(known) = known else { return Ok(()) };
        if known.denies(nar, file_size) {
            tracing::warn!(nar = %name, "what an edge found in a file contradicts what was proven, and is not believed");
            return Ok(());
        }
        let mut file = known.as_ref().clone();
        (file.file_size, file.nar, file.proven) = (Some(file_size), Some(nar), true);
        self.put_if_changed(name, Some(&known), file);
        let naming = self.index.naming(name).await?;
        let wrong: Vec<_> =
            naming.iter().filter(|n| facts_of(n) != nar).map(|n| n.store_path.hash()).collect();
        let turns = self.index.lock_narinfos(wrong.iter().copied()).await;
        for hash in &wrong {
            let Some(narinfo) = self.index.narinfo(*hash).await? else { continue };
            if file_of(&narinfo) == name && facts_of(&narinfo) != nar {
                tracing::warn!(path = %narinfo.store_path, file = %name, "a narinfo named another NAR's file");
                self.index.remove_narinfo(*hash);
            }
        }
        self.invalidate(&wrong);
        drop((turns, turn));
        self.weigh([name]).await;
        Ok(())
    }

    /// An edge lost a file that no source has. Where nobody else holds it, those included that are away for less than an
    /// hour, what names it becomes absent.
    pub(super) async fn is_lost(&self, name: NarFileName) -> Result<()> {
        if self.sessions.is_remembered(name) {
            return Ok(());
        }
        self.index.admit().await?;
        let naming: Vec<_> = self.index.naming(name).await?.iter().map(|n| n.store_path.hash()).collect();
        let _turns = self.index.lock_narinfos(naming.iter().copied()).await;
        for hash in &naming {
            let narinfo: Option<Arc<_>> = self.index.narinfo(*hash).await?;
            let Some(narinfo) = narinfo.filter(|narinfo| file_of(narinfo) == name) else { continue };
            tracing::error!(path = %narinfo.store_path, nar = %name, "a path is lost: nobody has its NAR any more");
            self.index.remove_narinfo(*hash);
            self.index.put_absent(*hash, Heard::All);
        }
        self.invalidate(&naming);
        Ok(())
    }
}
