//! The admin addresses of a running proxy: opened, kept, replaced by a reload, taken from an old process.
//!
//! An address that stays keeps its socket and takes the new token. Everything that can fail is done before anything changes.

use std::sync::Arc;

use plimsoll_config::model::{Admin as Wanted, AdminBind, Config};
use plimsoll_control::admin_server::{Admin, Door};
use plimsoll_control::handover::GivenDoor;
use plimsoll_control::secrets::read_token;
use plimsoll_proxy::notice;

use super::{Failed, Running};

/// What a reload has got ready: addresses that are new, and the token of all.
pub(super) struct Prepared {
    fresh: Vec<Admin>,
    token: Option<plimsoll_config::model::Secret>,
}

impl Running {
    /// Opens the addresses that the configuration names and that are not open.
    pub(super) fn open_admin(&mut self) -> Result<(), Failed> {
        let snapshot = Arc::clone(self.proxy.snapshot());
        let prepared = self.prepare_admin(&snapshot.config)?;
        self.replace_admin(&snapshot.config, prepared);
        Ok(())
    }

    /// Opens what is new in `config`; nothing else has changed yet, also not by an error.
    pub(super) fn prepare_admin(&mut self, config: &Config) -> Result<Prepared, Failed> {
        let Some(wanted) = &config.admin else { return Ok(Prepared { fresh: Vec::new(), token: None }) };
        let token = read_token(wanted.token.as_ref()).map_err(Failed::Secret)?;
        let mut fresh = Vec::new();
        for bind in &wanted.binds {
            let is_open = |admin: &Admin| admin.bind() == bind;
            if !self.admin.iter().any(is_open) {
                // It may have been given up a moment ago.
                self.old_admin.retain(|admin| !is_open(admin));
                let failed = |error| Failed::Admin(bind.clone(), error);
                let door = Door::open(bind, wanted.mode).map_err(failed)?;
                fresh.push(Admin::start(door, token.clone(), Arc::clone(&self.published)).map_err(failed)?);
            }
        }
        Ok(Prepared { fresh, token })
    }

    /// Goes over to what was prepared. Who asked at an address that is gone still gets an answer.
    pub(super) fn replace_admin(&mut self, config: &Config, prepared: Prepared) {
        let wanted = config.admin.as_ref();
        let is_gone = |admin: &mut Admin| !wanted.is_some_and(|wanted| wanted.binds.contains(admin.bind()));
        self.old_admin.extend(self.admin.extract_if(.., is_gone));
        for admin in &self.admin {
            let mode = wanted.map_or(0o600, |wanted: &Wanted| wanted.mode);
            if let Err(e) = admin.adopt(prepared.token.clone(), mode) {
                notice(&format!("the permissions of {} stay as they are: {e}", admin.bind()));
            }
        }
        for admin in &prepared.fresh {
            notice(&format!("admin on {}", admin.address()));
        }
        self.admin.extend(prepared.fresh);
    }

    /// Answers at the addresses that an old process gives, as far as the configuration still has them. The others' files go.
    pub(super) fn take_doors(&mut self, given: &mut Vec<GivenDoor>) -> Result<(), Failed> {
        let snapshot = Arc::clone(self.proxy.snapshot());
        let wanted = snapshot.config.admin.as_ref();
        for given in given.drain(..) {
            let Ok(bind) = given.bind.parse::<AdminBind>() else { continue };
            let door = Door::given(bind.clone(), given.socket, given.identity);
            let Some(wanted) = wanted.filter(|wanted| wanted.binds.contains(&bind)) else { continue };
            let failed = |error| Failed::Admin(bind.clone(), error);
            let token = read_token(wanted.token.as_ref()).map_err(Failed::Secret)?;
            let admin = Admin::start(door, token.clone(), Arc::clone(&self.published)).map_err(failed)?;
            admin.adopt(token, wanted.mode).map_err(failed)?;
            notice(&format!("admin on {}", admin.address()));
            self.admin.push(admin);
        }
        Ok(())
    }
}
