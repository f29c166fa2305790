//! The keys of this cache: shown, exported, and replaced.

use ncps_nix::SecretKey;
use ncps_proto::admin::{Caller, EventKind, Keys};
use ncps_proto::{Code, Error, Result, Secret};

use crate::Control;
use crate::journal::Note;
use crate::keys::{next_name, replace, retire};

impl Control {
    pub(super) fn public_keys(&self) -> Keys {
        let trusted = self.settings.get().trusted_keys.clone();
        Keys { signing: self.public_key(), former: self.policy.former(), trusted }
    }

    /// The secret key, which is noted before it is told.
    pub(super) async fn export(&self, caller: &Caller) -> Result<Secret> {
        let key = self.policy.key().ok_or_else(unsigned)?;
        self.journal.audit(caller, Note::new(EventKind::KeyExported, key.name())).await?;
        Ok(Secret::new(key.to_text().as_str()))
    }

    /// Another key signs from here on. Stored narinfos get its signature when they are asked for.
    pub(super) async fn rotate(&self, caller: &Caller, name: Option<String>) -> Result<Keys> {
        let mut place = self.key_place.lock().await;
        let current = self.policy.key().ok_or_else(unsigned)?;
        let path = place.path.clone().ok_or_else(given)?;
        let key = generate(&current, &self.public_keys(), name)?;
        let former = retire(&place.former, current.public(), self.clock.now());
        let written = self.tasks.spawn_blocking("write a key", {
            let (former, text) = (former.clone(), key.to_text());
            move || {
                let key = SecretKey::parse(&text).map_err(std::io::Error::other)?;
                replace(&path, &key, &former)
            }
        });
        let written = written.await.map_err(|e| Error::internal("write the new key").because(e))?;
        written.map_err(|e| Error::internal("write the new key").because(e))?;
        place.former.clone_from(&former);
        let detail = format!("{} signs in the place of {}", key.public(), current.name());
        self.policy.sign_with(key, former);
        self.announce_keys();
        self.journal.audit(caller, Note::new(EventKind::KeyRotated, detail)).await?;
        Ok(self.public_keys())
    }

    fn announce_keys(&self) {
        let keys = self.public_keys().ours().cloned().collect();
        self.settings.change(|settings| settings.public_keys = keys);
    }
}

fn generate(current: &SecretKey, keys: &Keys, name: Option<String>) -> Result<SecretKey> {
    let invalid = |message: String| Error::new(Code::Invalid, message);
    let used: Vec<&str> = keys.ours().map(|key| key.name()).collect();
    let name = name.unwrap_or_else(|| next_name(current.name(), &used));
    if used.contains(&name.as_str()) {
        return Err(invalid(format!("a key named {name} signed here already: Nix keeps one key per name")));
    }
    SecretKey::generate(&name).map_err(|e| invalid(format!("a key can't be named {name:?}: {e}")))
}

fn unsigned() -> Error {
    Error::new(Code::Invalid, "narinfos are not signed here (--cache-sign-narinfo=false): there is no key")
}

fn given() -> Error {
    Error::new(
        Code::Invalid,
        "the key is where --cache-secret-key-path says, which is not ours to replace: make another one with \
         ncps-cli key generate NAME --to FILE, point --cache-secret-key-path at it and start control anew; clients \
         need both public keys until what the former one signed is gone",
    )
}
