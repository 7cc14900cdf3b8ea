//! Orders on their way: what the admin API hands to the one loop that publishes, and the log of what came of it.
//!
//! A [`Ordered`] goes in; the loop makes it, publishes, and answers. Each change that was made is one JSON line in the audit log: a file that
//! is opened for each line, so that it can be moved away at any time, or standard error. Never changes anything itself.

use std::fmt;
use std::fs::OpenOptions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use plimsoll_config::model::Server;
use plimsoll_proxy::notice;
use rustix::fs::OFlags;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::persist::Unkept;
use crate::wanted::{Change, Refused, Wanted};

/// A change that somebody waits for.
#[derive(Debug)]
pub struct Ordered {
    /// The backend's name.
    pub backend: String,
    /// What is to change.
    pub change: Change,
    /// Only if this is still the tag of what it changes, as `If-Match` has it.
    pub only_if: Option<String>,
    /// Whether the file is to keep it.
    pub keep: Keep,
    /// Who asks.
    pub by: String,
    /// Where to answer. Whoever asked may have gone away.
    pub answer: oneshot::Sender<Result<(), Declined>>,
}

/// How long a change is to last.
#[derive(Debug, Clone, PartialEq)]
pub enum Keep {
    /// Until the file says otherwise, or the process ends.
    AsOrder,
    /// The file is to say so itself. An added server stands there as it was written: its host name is not resolved.
    InFile(Option<Server>),
}

/// Why it was not done. Then nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declined {
    /// It makes no sense.
    Refused(Refused),
    /// Somebody else was first.
    Stale,
    /// An upgrade is under way.
    Upgrading,
    /// It cannot be served.
    Unservable(String),
    /// The file cannot keep it.
    Unkept(Unkept),
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Declined::Refused(refused) => refused.fmt(f),
            Declined::Stale => f.write_str("it has changed since you looked: look again"),
            Declined::Upgrading => f.write_str("an upgrade is under way: ask again when it has ended"),
            Declined::Unservable(reason)
            | Declined::Unkept(Unkept::Impossible(reason) | Unkept::Unwritten(reason)) => {
                f.write_str(reason.trim_end())
            }
        }
    }
}

impl Ordered {
    /// Makes the change in `wanted`; gives the line for the audit log.
    pub fn carry_out(&self, wanted: &mut Wanted) -> Result<Value, Declined> {
        let Ordered { backend, change, by, .. } = self;
        let name = change.server();
        let before = wanted.server(backend, name);
        if let Some(only_if) = &self.only_if {
            let tag = match (change, &before) {
                (Change::Add(_), _) => {
                    wanted.of(backend).map(|servers| tag(&servers)).map_err(Declined::Refused)?
                }
                (_, Some(server)) => tag(std::slice::from_ref(server)),
                // What is not there is told before what is asked about it: RFC 9110, 13.2.1.
                (_, None) => {
                    wanted.of(backend).map_err(Declined::Refused)?;
                    let missing = Refused::NoServer(backend.clone(), name.to_owned());
                    return Err(Declined::Refused(missing));
                }
            };
            if !matches(only_if, &tag) {
                return Err(Declined::Stale);
            }
        }
        let now = unix_ms();
        wanted.change(backend, change, by, now).map_err(Declined::Refused)?;
        let after = wanted.server(backend, name);
        Ok(json!({
            "time_unix_ms": now,
            "by": by,
            "backend": backend,
            "server": name,
            "persisted": matches!(self.keep, Keep::InFile(_)),
            "before": before.as_ref().map(settings),
            "after": after.as_ref().map(settings),
        }))
    }
}

/// Now, in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// What of a server is told and not learned.
pub(crate) fn settings(server: &Server) -> Value {
    json!({
        "name": server.name,
        "address": server.address.to_string(),
        "weight": server.weight,
        "priority": server.priority,
        "backup": server.backup,
        "max_requests": server.max_requests,
        "state": server.state.as_str(),
    })
}

/// The server of [`settings`]; `None` if they are not whole. How it is checked is not among them.
pub(crate) fn read_settings(said: &Value) -> Option<Server> {
    let address = said["address"].as_str()?.parse().ok()?;
    Some(Server {
        weight: u16::try_from(said["weight"].as_u64()?).ok()?,
        priority: u8::try_from(said["priority"].as_u64()?).ok()?,
        backup: said["backup"].as_bool()?,
        max_requests: u32::try_from(said["max_requests"].as_u64()?).ok()?,
        state: said["state"].as_str()?.parse().ok()?,
        ..Server::new(said["name"].as_str()?, address)
    })
}

/// The entity tag of servers' settings. Counters are no part of it, because nobody overwrites them.
pub(crate) fn tag(servers: &[Server]) -> String {
    let mut hasher = DefaultHasher::new();
    servers.iter().for_each(|server| settings(server).to_string().hash(&mut hasher));
    format!("\"{:016x}\"", hasher.finish())
}

/// RFC 9110, 13.1.1: any of a list, by strong comparison, or `*` for whatever is there.
fn matches(only_if: &str, tag: &str) -> bool {
    only_if.split(',').map(str::trim).any(|one| one == "*" || one == tag)
}

/// Writes a line. One that the file does not take goes to standard error: it must not be lost.
pub fn audit(file: Option<&Path>, line: &Value) {
    let Some(path) = file else { return notice(&format!("audit {line}")) };
    // A pipe that nobody reads is an error and no wait.
    let unblocked = OFlags::NONBLOCK.bits().cast_signed();
    let open = OpenOptions::new().create(true).append(true).custom_flags(unblocked).open(path);
    // In one write, so that lines of two processes do not mix.
    if let Err(e) = open.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
        notice(&format!("cannot write to the audit log {}: {e}", path.display()));
        notice(&format!("audit {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: &str = "listen :8080";

    fn ordered(change: Change, only_if: Option<String>) -> Ordered {
        let (answer, _) = oneshot::channel();
        Ordered { backend: B.to_owned(), change, only_if, keep: Keep::AsOrder, by: "me".to_owned(), answer }
    }

    fn wanted() -> Wanted {
        let servers = ["10.0.0.1:1".to_owned(), "10.0.0.2:1".to_owned()];
        let file = plimsoll_config::from_flags(&[":8080".to_owned()], &servers).unwrap().config;
        Wanted::new(file.clone(), file)
    }

    #[test]
    fn of_two_operators_with_one_tag_the_second_is_told() {
        let mut wanted = wanted();
        let tag = tag(&wanted.of(B).unwrap()[..1]);
        let set = |weight| Change::Set { server: "10.0.0.1:1".to_owned(), state: None, weight: Some(weight) };
        let line = ordered(set(5), Some(tag.clone())).carry_out(&mut wanted).unwrap();
        assert_eq!((&line["before"]["weight"], &line["after"]["weight"]), (&json!(1), &json!(5)));
        assert_eq!(ordered(set(7), Some(tag)).carry_out(&mut wanted), Err(Declined::Stale));
        assert_eq!(wanted.of(B).unwrap()[0].weight, 5);
        ordered(set(7), Some("*".to_owned())).carry_out(&mut wanted).unwrap();
        ordered(set(9), None).carry_out(&mut wanted).unwrap();
        let gone = Change::Remove("x".to_owned());
        let missing = Refused::NoServer(B.to_owned(), "x".to_owned());
        let refused = ordered(gone, Some("*".to_owned())).carry_out(&mut wanted);
        assert_eq!(
            refused,
            Err(Declined::Refused(missing)),
            "there is nothing whose tag could be another one"
        );
    }

    #[test]
    fn tags_are_of_settings_and_lists_of_tags_are_understood() {
        let all = wanted().of(B).unwrap();
        assert_ne!(tag(&all), tag(&all[..1]));
        assert!(matches("\"a\" , \"b\"", "\"b\"") && !matches("W/\"b\"", "\"b\"") && matches("*", "\"b\""));
    }
}
