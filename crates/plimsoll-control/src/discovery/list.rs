//! Servers from a list: a file that is looked at, or a URL that is asked.
//!
//! A list that was read and taken is not read again until it differs. Half a list is never taken: one that is being written is wrong for a
//! moment, and only what stays wrong is told. Host names in it become one address each, as those of the configuration do.

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use plimsoll_config::defaults::LARGEST_LIST;
use plimsoll_config::model::{Address, Server};
use plimsoll_config::parse_list;
use rustix::fs::OFlags;

use super::Found;
use super::names::Names;

/// The last looks at a file.
#[derive(Debug, Default)]
pub(super) struct FileList {
    /// What the servers in force come from.
    taken: Option<Vec<u8>>,
    seen: Option<Vec<u8>>,
}

impl FileList {
    /// Reads the file; `None` is what was taken already, or is still being written.
    pub(super) async fn look(
        &mut self,
        path: &Path,
        max_requests: u32,
        names: &mut Names,
    ) -> Result<Option<Found>, String> {
        let text = read(path).map_err(|e| format!("cannot read it: {e}"))?;
        if self.taken.as_ref() == Some(&text) {
            self.seen = Some(text);
            return Ok(None);
        }
        let has_settled = self.seen.replace(text).is_some_and(|before| Some(&before) == self.seen.as_ref());
        let text = self.seen.as_deref().unwrap_or_default();
        match parse_list(text, max_requests) {
            Ok(servers) => resolve(servers, names).await.map(Some),
            Err(_) if !has_settled && self.taken.is_some() => Ok(None),
            Err(reason) => Err(reason),
        }
    }

    /// What was seen last is in force.
    pub(super) fn take(&mut self) {
        self.taken.clone_from(&self.seen);
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe that nobody writes to would be waited for.
    let file =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(LARGEST_LIST as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// Gives every server that has a name an address. One whose name has none is left out, and that is said.
pub(super) async fn resolve(mut servers: Vec<Server>, names: &mut Names) -> Result<Found, String> {
    let named = servers.iter().filter_map(|server| match &server.address {
        Address::Name(host, _) => Some(host.clone()),
        _ => None,
    });
    let named: HashSet<String> = named.collect();
    if named.is_empty() {
        return Ok(Found { servers, ..Found::default() });
    }
    let resolved = names.resolve(named).await?;
    let mut trouble = resolved.trouble;
    servers.retain_mut(|server| settle(server, &resolved.addresses, &mut trouble));
    Ok(Found { servers, ttl: None, trouble, is_partial: resolved.is_partial })
}

fn settle(
    server: &mut Server,
    addresses: &HashMap<String, Vec<IpAddr>>,
    trouble: &mut Option<String>,
) -> bool {
    let Address::Name(host, port) = &server.address else { return true };
    // They are sorted, IPv4 first: the same one each time, whatever the order of the answer.
    match addresses.get(host).and_then(|all| all.first()) {
        Some(&ip) => {
            server.address = Address::Socket((ip, *port).into());
            true
        }
        None => {
            trouble.get_or_insert_with(|| format!("{host} has no address"));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_again_when_it_differs_and_half_of_it_is_waited_out() {
        let path = std::env::temp_dir().join(format!("plimsoll-list-{}.json", std::process::id()));
        let (mut list, mut names) = (FileList::default(), Names::new(None));
        assert!(list.look(&path, 1, &mut names).await.unwrap_err().starts_with("cannot read it"));
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("[\"127.0.0.1:1\"");
        assert!(list.look(&path, 1, &mut names).await.is_err(), "nothing is in force that could stay");
        write("[\"127.0.0.1:1\"]");
        assert_eq!(list.look(&path, 1, &mut names).await.unwrap().unwrap().servers.len(), 1);
        assert!(list.look(&path, 1, &mut names).await.unwrap().is_some(), "it was not taken");
        list.take();
        assert!(list.look(&path, 1, &mut names).await.unwrap().is_none());
        write("[\"127.0.0.1:1\", \"127.");
        assert!(list.look(&path, 1, &mut names).await.unwrap().is_none(), "somebody is writing it");
        assert!(list.look(&path, 1, &mut names).await.is_err(), "nobody is");
        write("[\"127.0.0.1:1\", \"127.0.0.1:2\"]");
        assert_eq!(list.look(&path, 1, &mut names).await.unwrap().unwrap().servers.len(), 2);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_name_becomes_its_first_address_and_one_without_is_left_out() {
        let addresses = HashMap::from([
            ("a".to_owned(), vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()]),
            ("b".to_owned(), vec![]),
        ]);
        let mut trouble = None;
        let mut server = Server::new("a:80", Address::Name("a".to_owned(), 80));
        assert!(settle(&mut server, &addresses, &mut trouble) && trouble.is_none());
        assert_eq!(
            (server.name.as_str(), &server.address),
            ("a:80", &Address::Socket("10.0.0.1:80".parse().unwrap()))
        );
        let mut server = Server::new("b:80", Address::Name("b".to_owned(), 80));
        assert!(!settle(&mut server, &addresses, &mut trouble));
        assert_eq!(trouble.unwrap(), "b has no address");
    }
}
