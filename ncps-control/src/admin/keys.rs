//! The keys of this cache.

use ncps_proto::admin::Keys;

use crate::Control;

impl Control {
    pub(super) fn public_keys(&self) -> Keys {
        Keys { signing: self.public_key() }
    }
}
