//! What every command has: where control is, and how answers are printed. Nothing is connected until a command
//! asks for it.

use std::path::Path;

use ncps_edge::config::ControlUrl;
use ncps_edge::remote;
use ncps_proto::Secret;
use ncps_proto::admin::RemoteAdmin;
use ncps_runtime::config::Env;
use ncps_runtime::paths;

use super::Global;
use crate::failure::Failure;
use crate::output::Output;

/// One run of a command.
pub(crate) struct Session {
    place: ControlUrl,
    token: Option<Secret>,
    /// How answers are printed.
    pub(crate) output: Output,
}

impl Session {
    pub(super) fn of(global: Global, env: Env<'_>) -> Result<Session, Failure> {
        let place = match global.control {
            Some(place) => place,
            None => place(env)?,
        };
        let token = global.token_file.as_deref().map(read_token).transpose()?;
        Ok(Session { place, token, output: global.output })
    }

    /// Control, which answers.
    pub(crate) async fn admin(&self) -> Result<RemoteAdmin, Failure> {
        let admin = RemoteAdmin::new(remote::dial(&self.place).await.map_err(|error| hint(&error))?);
        match &self.token {
            Some(token) => Ok(admin.with_token(token)?),
            None => Ok(admin),
        }
    }
}

fn place(env: Env<'_>) -> Result<ControlUrl, Failure> {
    if let Some(text) = env("NCPS_CONTROL").filter(|text| !text.is_empty()) {
        return text.parse().map_err(|error| Failure::Input(format!("NCPS_CONTROL: {error}")));
    }
    let root = paths::is_root();
    let data = paths::data_path(env, root);
    Ok(ControlUrl::FirstOf(paths::control_sockets(env, root, data.as_deref())))
}

fn hint(error: &ncps_proto::Error) -> Failure {
    Failure::Unreachable(format!(
        "{}\nDoes it run? --control or NCPS_CONTROL says where it is.",
        error.story()
    ))
}

fn read_token(path: &Path) -> Result<Secret, Failure> {
    let text = std::fs::read_to_string(path).map(Secret::new);
    let text = text.map_err(|error| Failure::Input(format!("--token-file {}: {error}", path.display())))?;
    Ok(Secret::new(text.reveal().trim()))
}
