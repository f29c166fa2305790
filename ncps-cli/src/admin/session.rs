//! What every command has: where control is, and how answers are printed. Nothing is connected until a command
//! asks for it.

use std::path::PathBuf;

use ncps_edge::config::{ControlLink, ControlUrl};
use ncps_edge::remote;
use ncps_proto::admin::RemoteAdmin;
use ncps_proto::{Code, Secret};
use ncps_runtime::config::Env;
use ncps_runtime::paths;
use ncps_runtime::tls::TlsFiles;

use super::Global;
use crate::failure::Failure;
use crate::output::Output;

/// One run of a command.
pub(crate) struct Session {
    link: ControlLink,
    token: Option<Secret>,
    /// How answers are printed.
    pub(crate) output: Output,
}

impl Session {
    pub(super) fn of(global: Global, env: Env<'_>) -> Result<Session, Failure> {
        let url = match global.control {
            Some(url) => url,
            None => place(env)?,
        };
        let secure = matches!(url, ControlUrl::Https(_));
        let named = |given: Option<PathBuf>, variable| {
            let path = given.or_else(|| env(variable).map(PathBuf::from));
            path.filter(|path| !path.as_os_str().is_empty())
        };
        let ca_file = named(global.ca_file, "NCPS_CA_FILE").filter(|_| secure);
        let token_file = named(global.token_file, "NCPS_TOKEN_FILE");
        let cert = named(global.client_cert, "NCPS_CLIENT_CERT");
        let identity = match (cert, named(global.client_key, "NCPS_CLIENT_KEY")) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }).filter(|_| secure),
            (None, None) => None,
            _ => {
                let why = "--client-cert and --client-key have to be given together";
                return Err(Failure::Input(why.to_owned()));
            }
        };
        let token = token_file.as_deref().map(remote::read_token).transpose();
        let token = token.map_err(|error| Failure::Input(format!("--token-file: {error}")))?;
        let link = ControlLink { url, ca_file, token_file, identity };
        Ok(Session { link, token, output: global.output })
    }

    /// Control, which answers.
    pub(crate) async fn admin(&self) -> Result<RemoteAdmin, Failure> {
        let admin = RemoteAdmin::new(remote::dial(&self.link).await.map_err(|error| hint(&error))?);
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
    if error.code() == Code::Invalid {
        return Failure::Input(format!("--ca-file, --client-cert, --client-key: {}", error.story()));
    }
    Failure::Unreachable(format!(
        "{}\nDoes it run? --control or NCPS_CONTROL says where it is.",
        error.story()
    ))
}
