//! Objects that clients bring and take away: decoded, checked by the rules of their kind, and kept before any that an
//! upstream has. Nobody vouches for them, as for those of upstreams.

use std::sync::Arc;

use ncps_nix::ObjectName;
use ncps_proto::{Code, Error, Result};
use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::buffer::{Taken, Trouble, take};
use super::decode::{decoded, trouble};
use super::{Objects, rules};
use crate::store::{Kept, ObjectFrom, blocking};
use crate::transfer::broken;
use crate::upstream::body::Chunks;
use crate::upstream::{Coding, UpstreamError};

/// An object of a client, whole and checked.
pub(crate) struct Brought(Taken);

impl Brought {
    /// In bytes, decoded.
    pub(crate) fn size(&self) -> u64 {
        match &self.0 {
            Taken::Memory(bytes) => bytes.len() as u64,
            Taken::Spooled(_, size) => *size,
        }
    }
}

impl Objects {
    /// Takes the whole of an object in. Nobody sees it yet.
    ///
    /// # Errors
    /// Those of [`Code::is_callers`] where it is not what it should be; others where the disk fails.
    pub(crate) async fn receive(&self, name: &ObjectName, body: Chunks, coding: &Coding) -> Result<Brought> {
        let rules = rules(name);
        let taken = take(decoded(body, coding), rules.limit, &self.local).await.map_err(untaken)?;
        if rules.json {
            check(name, &taken).await?;
        }
        Ok(Brought(taken))
    }

    /// Keeps it until it is deleted or must make room for other uploads.
    ///
    /// # Errors
    /// [`Code::StorageFull`] where there is no room for it; others where the disk fails.
    pub(crate) async fn keep_brought(&self, name: &ObjectName, brought: Brought) -> Result<()> {
        let Brought(taken) = brought;
        let budget = self.current.get()?.settings.max_objects_bytes;
        let (store, kept) = (Arc::clone(&self.store), name.clone());
        let written = blocking(move || match taken {
            Taken::Memory(bytes) => store.put(&kept, &bytes, ObjectFrom::Client, budget),
            Taken::Spooled(spool, size) => store.commit(&kept, spool, size, ObjectFrom::Client, budget),
        });
        match written.await.map_err(|e| untaken(Trouble::Disk(e)))? {
            Kept::Yes => {}
            Kept::NoRoom => {
                return Err(Error::new(
                    Code::StorageFull,
                    "larger than all objects may be (--max-objects-size)",
                ));
            }
        }
        self.absent_until.remove(name);
        Ok(())
    }

    /// Removes an object for a client. False where it is not here.
    ///
    /// # Errors
    /// Where the disk fails.
    pub(crate) async fn delete(&self, name: &ObjectName) -> Result<bool> {
        let (store, gone) = (Arc::clone(&self.store), name.clone());
        let removed = blocking(move || store.remove(&gone)).await;
        let removed = removed.map_err(|e| Error::internal(format!("remove {name}")).because(e))?;
        Ok(removed)
    }
}

/// A small text that a client sends, decoded, `most` bytes at most.
pub(crate) async fn read_text(body: Chunks, coding: &Coding, most: usize) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut reader = decoded(body, coding).take(most as u64 + 1);
    reader.read_to_end(&mut text).await.map_err(|e| unreadable(trouble(&e)))?;
    if text.len() > most { Err(unreadable(UpstreamError::TooMuch)) } else { Ok(text) }
}

/// One JSON object; of a build trace and a realisation one that speaks of what its name says.
async fn check(name: &ObjectName, taken: &Taken) -> Result<()> {
    let invalid = |why: &str| Err(Error::new(Code::Invalid, format!("{name} {why}")));
    if !taken.is_json().await {
        return invalid("is no JSON object");
    }
    // What has to fit its name is small.
    let Taken::Memory(bytes) = taken else { return Ok(()) };
    let Ok(json) = serde_json::from_slice::<Value>(bytes) else { return invalid("is no JSON object") };
    match name {
        ObjectName::Realisation { .. } if !is_of_realisation(name, &json) => invalid("has another id"),
        ObjectName::BuildTrace { .. } if !is_of_trace(name, &json) => {
            invalid("has another key, or no outPath")
        }
        _ => Ok(()),
    }
}

fn is_of_realisation(name: &ObjectName, json: &Value) -> bool {
    let id = json.get("id").and_then(Value::as_str);
    id.is_some_and(|id| name.to_string() == format!("realisations/{id}.doi"))
}

/// `{"key":…,"value":…}`, or what is in `value` alone.
fn is_of_trace(name: &ObjectName, json: &Value) -> bool {
    let text = |of: &Value, field: &str| of.get(field).and_then(Value::as_str).map(str::to_owned);
    let value = json.get("value").unwrap_or(json);
    let fits = json.get("key").is_none_or(|key| {
        let (path, output) = (text(key, "drvPath"), text(key, "outputName"));
        let path = path.as_deref().map(|path| path.strip_prefix("/nix/store/").unwrap_or(path));
        path.zip(output)
            .is_some_and(|(path, output)| name.to_string() == format!("build-trace-v2/{path}/{output}.doi"))
    });
    fits && text(value, "outPath").is_some()
}

fn untaken(trouble: Trouble) -> Error {
    match trouble {
        Trouble::Upstream(error) => unreadable(error),
        Trouble::Disk(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            Error::new(Code::StorageFull, "the disk is full").because(error)
        }
        Trouble::Disk(error) => Error::internal("the disk can't take an object in").because(error),
    }
}

fn unreadable(error: UpstreamError) -> Error {
    match error {
        UpstreamError::Undecodable(reason) => {
            Error::new(Code::Invalid, format!("the body is not what Content-Encoding says: {reason}"))
        }
        error => broken(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRV: &str = "00000000000000000000000000000000-a.drv";

    fn fits(json: &Value) -> bool {
        is_of_trace(&ObjectName::parse(&format!("build-trace-v2/{DRV}/out.doi")).expect("a name"), json)
    }

    #[test]
    fn a_build_trace_speaks_of_what_its_name_says() {
        let value = serde_json::json!({ "outPath": "00000000000000000000000000000000-a", "signatures": [] });
        let whole = |drv: &str, output: &str| serde_json::json!({ "key": { "drvPath": drv, "outputName": output }, "value": value });
        assert!(
            fits(&value) && fits(&whole(DRV, "out")) && fits(&whole(&format!("/nix/store/{DRV}"), "out"))
        );
        assert!(!fits(&whole(DRV, "dev")) && !fits(&whole("b.drv", "out")));
        assert!(!fits(&serde_json::json!({})) && !fits(&serde_json::json!({ "key": {}, "value": value })));
    }
}
