//! Pins, as they are shown.

use ncps_nix::StorePathHash;
use ncps_proto::Result;
use ncps_proto::admin::{Caller, PinOrder, PinRow, Pinned};

use crate::{Control, Extent, Pin};

impl Control {
    pub(super) async fn pin_for(&self, order: PinOrder, caller: &Caller) -> Result<Pinned> {
        let PinOrder { path, label, lasts } = order;
        let (pin, Extent { paths, unknown }) = self.pin(path, label, lasts, caller).await?;
        Ok(Pinned { pin: row(pin), paths, unknown })
    }

    pub(super) async fn unpin_for(&self, what: &str, caller: &Caller) -> Result<Vec<PinRow>> {
        Ok(self.unpin(what, caller).await?.into_iter().map(row).collect())
    }

    pub(super) async fn pin_rows(&self) -> Result<Vec<PinRow>> {
        Ok(self.list_pins().await?.into_iter().map(row).collect())
    }

    /// Those that keep a path.
    pub(super) async fn pins_of(&self, path: StorePathHash) -> Result<Vec<PinRow>> {
        let pins = self.pins.keeping(path, self.clock.now()).await?;
        Ok(pins.into_iter().map(row).collect())
    }
}

fn row(pin: Pin) -> PinRow {
    PinRow {
        path: pin.path,
        label: pin.label,
        made_by: pin.made_by,
        created_at: pin.created_at.0,
        expires_at: pin.expires_at.map(|end| end.0),
    }
}
