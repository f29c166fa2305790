//! All that can be known of one path, looked at now.

use futures::future::join_all;
use ncps_nix::{NarFileName, NarInfo, PublicKey, StorePath, StorePathHash, TrustedKeys};
use ncps_proto::admin::Verification;
use ncps_proto::{Checked, Code, Error, Job, JobSaid, NarFacts, Result, Verdict};

use super::Control;
use crate::record::{facts_of, file_of};

impl Control {
    /// Looks at a path that is named as people name paths.
    pub(crate) async fn verify_path(&self, text: &str) -> Result<Verification> {
        let hash = path_hash(text)?;
        let narinfo = self.index.narinfo(hash).await?;
        let unknown = || Error::new(Code::Absent, format!("{text} is not in the index"));
        let narinfo = narinfo.ok_or_else(unknown)?;
        let mut found = Verification {
            store_path: narinfo.store_path.clone(),
            nar: file_of(&narinfo),
            signed_by: self.signed_by(&narinfo),
            unknown_references: self.unknown_references(&narinfo).await?,
            files: Vec::new(),
            problems: Vec::new(),
        };
        if found.signed_by.is_empty() && !narinfo.proves_itself() {
            found.problems.push("no trusted key signed it, and no CA proves it".to_owned());
        }
        self.verify_files(&narinfo, &mut found).await?;
        Ok(found)
    }

    fn signed_by(&self, narinfo: &NarInfo) -> Vec<String> {
        let settings = self.settings.get();
        let keys = settings.public_keys.iter().chain(self.policy.trusted.iter());
        let mut names: Vec<String> = keys
            .filter(|key| TrustedKeys::from_iter([PublicKey::clone(key)]).verify(narinfo).is_some())
            .map(|key| key.name().to_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    async fn unknown_references(&self, narinfo: &NarInfo) -> Result<Vec<String>> {
        let mut unknown = Vec::new();
        for reference in &narinfo.references {
            if self.index.narinfo(reference.hash()).await?.is_none() {
                unknown.push(reference.to_string());
            }
        }
        Ok(unknown)
    }

    /// The file that the narinfo names, and every other representation that an edge holds.
    async fn verify_files(&self, narinfo: &NarInfo, found: &mut Verification) -> Result<()> {
        let mut names = vec![found.nar];
        for (other, _) in self.index.files_of(narinfo.nar_hash).await? {
            if !names.contains(&other) {
                names.push(other);
            }
        }
        let edges = self.sessions.named(None);
        let looks = edges.iter().map(|(_, instance)| self.verify_on(instance, &names));
        for ((edge, _), looked) in edges.iter().zip(join_all(looks).await) {
            match looked {
                Ok(files) => {
                    for file in files {
                        found.problems.extend(problem(edge, &file, facts_of(narinfo)));
                        found.files.push((edge.clone(), file));
                    }
                }
                Err(error) => found.problems.push(format!("{edge}: {}", error.story())),
            }
        }
        Ok(())
    }

    /// What an edge has of these files. Those that it is not believed to hold, and does not, are left out.
    async fn verify_on(&self, instance: &str, names: &[NarFileName]) -> Result<Vec<Checked>> {
        let _turn = self.verifying.lock().await;
        let mut run = self.sessions.begin_job(instance, Job::Verify(names.to_vec()))?;
        let mut files = Vec::new();
        while let Some(said) = run.next().await? {
            if let JobSaid::Checked(file) = said
                && (file.verdict != Verdict::Missing || self.sessions.holds_file(instance, file.name))
            {
                files.push(file);
            }
        }
        Ok(files)
    }
}

fn problem(edge: &str, file: &Checked, nar: NarFacts) -> Option<String> {
    let Checked { name, verdict, reason, .. } = file;
    let what = match verdict {
        Verdict::Right if file.nar == Some(nar) => return None,
        Verdict::Right if reason.is_empty() => "it decodes to another NAR than its narinfo says",
        Verdict::Right => reason,
        Verdict::Missing => "it should be there and is not",
        Verdict::Wrong | Verdict::Unreadable | Verdict::Healed | Verdict::Lost | Verdict::Unhealed => reason,
    };
    Some(format!("{edge}: {name}: {what}"))
}

/// A store path, its base name, or its hash.
fn path_hash(text: &str) -> Result<StorePathHash> {
    let base = text.strip_prefix("/nix/store/").unwrap_or(text);
    let base = base.split('/').next().unwrap_or_default();
    let base = base.strip_suffix(".narinfo").unwrap_or(base);
    let hash = StorePathHash::parse(base).ok().or_else(|| Some(StorePath::parse(base).ok()?.hash()));
    let expected = || {
        let right =
            "expected a store path (/nix/store/HASH-NAME), its base name, or its hash of 32 characters";
        Error::new(Code::Invalid, format!("{text:?} is no store path: {right}"))
    };
    hash.ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_named_in_several_ways() {
        let hash = "7h7qgvs4kgzsn8a6rb273saxyqh4jxlz";
        let texts = ["", "/nix/store/"].iter().flat_map(|before| {
            ["-hello-2.12", "-hello-2.12/bin/hello"].iter().map(move |after| format!("{before}{hash}{after}"))
        });
        for text in texts.chain([hash.to_owned(), format!("{hash}.narinfo")]) {
            assert_eq!(path_hash(&text).expect(&text).to_string(), hash);
        }
        for wrong in ["", "hello", "7h7qgvs4kgzsn8a6rb273saxyqh4jxl", "/nix/store/", "*"] {
            assert_eq!(path_hash(wrong).expect_err(wrong).code(), Code::Invalid);
        }
    }
}
