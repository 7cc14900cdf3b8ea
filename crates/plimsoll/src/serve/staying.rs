//! Servers that a list no longer names, and that go on until enough of those that it names can serve.
//!
//! A list that names only servers that fail their checks, or that nobody has asked yet, would take everything away at once: a record that is wrong, or a switch to other
//! servers before they are ready. In goes what the file and discovery say, and what is in force; out come those who stay. Nobody stays who is not well, whom the file
//! listed itself, or where servers are not checked: then nothing is known about those who are new.

use std::collections::{HashMap, HashSet};

use plimsoll_config::defaults::MOST_DISCOVERED;
use plimsoll_config::model::{Backend, Config, Server};
use plimsoll_control::wanted::Wanted;
use plimsoll_proxy::{Snapshot, notice};

use super::Running;
use super::discovering::Listed;

/// By backend, who stays.
pub(super) type Staying = Vec<(String, Vec<Server>)>;

impl Listed {
    /// What is to be in force of the first configuration: with those who stayed in the process before this one. Whether they are still needed, this one's own checks say.
    pub(super) fn recalled(&self) -> Config {
        let mut config = self.whole();
        for (name, staying) in &self.staying {
            let is_theirs = |spec: &&mut Backend| spec.name == *name && spec.check.is_some();
            let Some(spec) = config.backends.iter_mut().find(is_theirs) else { continue };
            let others = others(spec, staying.iter().cloned());
            spec.servers.extend(others);
        }
        config
    }
}

impl Running {
    /// What the file and discovery say, with those who stay.
    pub(super) fn based(&self, listed: &Listed) -> (Config, Staying) {
        let (mut config, mut staying) = (listed.whole(), Vec::new());
        for (spec, filed) in config.backends.iter_mut().zip(&listed.filed.backends) {
            let stay = who_stays(spec, filed.servers.len(), self.proxy.snapshot(), &self.wanted);
            if !stay.is_empty() {
                spec.servers.extend_from_slice(&stay);
                staying.push((spec.name.clone(), stay));
            }
        }
        (config, staying)
    }

    /// Looks whether those who stay are still needed.
    pub(super) fn look_at_staying(&mut self) {
        // What cannot be served is tried again by itself.
        if !self.listed.staying.is_empty() && self.again.is_none() {
            self.take_lists();
        }
    }
}

/// Tells the operator where servers begin to stay, and where they do no longer.
pub(super) fn tell(before: &Staying, now: &Staying) {
    let has = |all: &Staying, name: &str| all.iter().any(|(backend, _)| backend == name);
    for (backend, staying) in now.iter().filter(|(backend, _)| !has(before, backend)) {
        notice(&format!(
            "backend {backend}: too few of the servers that its list names can serve, so {} that it names no longer go on",
            staying.len()
        ));
    }
    for (backend, _) in before.iter().filter(|(backend, _)| !has(now, backend)) {
        notice(&format!("backend {backend}: only servers that its list names serve again"));
    }
}

/// `filed` of the backend's servers stand in the file, before those that its list names. A list that may name nobody, and does, is believed.
fn who_stays(spec: &Backend, filed: usize, in_force: &Snapshot, wanted: &Wanted) -> Vec<Server> {
    let is_same = |before: &Backend| before.name == spec.name && before.discover == spec.discover;
    let place = in_force.config.backends.iter().position(is_same);
    let (Some(place), Some(_), Some(_)) = (place, &spec.discover, &spec.check) else { return Vec::new() };
    let named: HashSet<_> = spec.servers[filed..].iter().map(|s| (s.name.as_str(), &s.address)).collect();
    let before = in_force.config.backends[place].servers.iter().zip(&in_force.backends[place].servers);
    let serving: Vec<&Server> =
        before.filter(|(_, live)| live.takes() && live.is_well()).map(|(server, _)| server).collect();
    let well =
        serving.iter().filter(|server| named.contains(&(server.name.as_str(), &server.address))).count();
    if named.is_empty() || well > 0 && well * 100 >= spec.panic as usize * named.len() {
        return Vec::new();
    }
    // As discovery found them: what was ordered about them goes on by itself.
    let found: HashMap<&str, &Server> = wanted.found(&spec.name).map(|s| (s.name.as_str(), s)).collect();
    let left = others(spec, serving.into_iter().filter_map(|s| found.get(s.name.as_str()).copied().cloned()));
    left.into_iter().take(MOST_DISCOVERED).collect()
}

/// Those whose name and address nobody has.
fn others(spec: &Backend, servers: impl Iterator<Item = Server>) -> Vec<Server> {
    let names: HashSet<_> = spec.servers.iter().map(|server| server.name.as_str()).collect();
    let addresses: HashSet<_> = spec.servers.iter().map(|server| &server.address).collect();
    servers.filter(|s| !names.contains(s.name.as_str()) && !addresses.contains(&s.address)).collect()
}
