//! Control as its administrators see it: the use cases of [`AdminPlane`]. Each subject has its own file.

mod keys;

use async_trait::async_trait;
use ncps_proto::Result;
use ncps_proto::admin::{AdminPlane, Keys};

use crate::Control;

#[async_trait]
impl AdminPlane for Control {
    async fn keys(&self) -> Result<Keys> {
        Ok(self.public_keys())
    }
}
