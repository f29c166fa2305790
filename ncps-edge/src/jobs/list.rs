//! The narinfo files of the store, page by page, as they lie there: who hears them judges them.

use std::sync::Arc;

use ncps_proto::JobSaid;

use super::{Teller, Workshop};
use crate::store::blocking;

/// Narinfo files in one page, and their bytes: far below what a message may have.
const PAGE: usize = 256;
const PAGE_BYTES: usize = 2 << 20;

impl Workshop {
    pub(super) async fn list_narinfos(&self, teller: &Teller) -> Result<(), String> {
        let store = Arc::clone(&self.store);
        let hashes = blocking(move || store.narinfos()).await;
        let mut left = hashes.map_err(|e| format!("list the narinfo files: {e}"))?.into_iter();
        loop {
            let store = Arc::clone(&self.store);
            let page = blocking(move || {
                let (mut page, mut bytes) = (Vec::new(), 0);
                while page.len() < PAGE && bytes < PAGE_BYTES {
                    let Some(hash) = left.next() else { break };
                    // One that is gone meanwhile, and one that is no text, is none.
                    if let Some(text) = store.narinfo(hash)?.and_then(|text| String::from_utf8(text).ok()) {
                        bytes += text.len();
                        page.push(text);
                    }
                }
                Ok((page, left))
            });
            let (page, rest) = page.await.map_err(|e| format!("read the narinfo files: {e}"))?;
            left = rest;
            if !page.is_empty() {
                teller.say(JobSaid::Narinfos(page)).await;
            }
            if left.len() == 0 {
                return Ok(());
            }
        }
    }
}
