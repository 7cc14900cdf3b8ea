//! Servers from DNS: every address of a name, or every record of a service.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, RecordType};
use plimsoll_config::defaults::{MOST_DISCOVERED, MOST_PRIORITY, MOST_WEIGHT};
use plimsoll_config::model::{Address, Server};

use super::Found;
use super::asker::shorter;
use super::names::{Names, Resolved};

/// How many times the weight of others a weight of 0 is, where both are.
const LEAST: u32 = 100;

/// Every address of `name` is a server.
pub(super) async fn addresses(
    names: &mut Names,
    name: &str,
    port: u16,
    max_requests: u32,
) -> Result<Found, String> {
    let resolved = names.resolve(HashSet::from([name.to_owned()])).await?;
    if let Some(trouble) = resolved.trouble.as_ref().filter(|_| !resolved.is_answered) {
        return Err(trouble.clone());
    }
    let ips = resolved.addresses.get(name).map_or(&[][..], Vec::as_slice);
    let servers = ips.iter().map(|&ip| server((ip, port).into(), max_requests)).collect();
    found(servers, &resolved, None)
}

/// Every SRV record of `name` (RFC 2782) is as many servers as its target has addresses.
pub(super) async fn service(names: &mut Names, name: &str, max_requests: u32) -> Result<Found, String> {
    let answer = names.asker()?.ask(name, RecordType::SRV).await?;
    let records: Vec<SRV> = answer
        .records
        .into_iter()
        .filter_map(|data| match data {
            // A target that is the root says that the service is not there.
            RData::SRV(record) if !record.target.is_root() && record.port > 0 => Some(record),
            _ => None,
        })
        .collect();
    let targets = records.iter().map(target).collect();
    let resolved = names.resolve(targets).await?;
    found(servers(&records, &resolved.addresses, max_requests), &resolved, answer.ttl)
}

fn target(record: &SRV) -> String {
    record.target.to_ascii().to_ascii_lowercase()
}

fn server(address: SocketAddr, max_requests: u32) -> Server {
    Server { max_requests, ..Server::new(&address.to_string(), Address::Socket(address)) }
}

fn found(servers: Vec<Server>, resolved: &Resolved, ttl: Option<Duration>) -> Result<Found, String> {
    if servers.len() > MOST_DISCOVERED {
        return Err(format!("there are more than {MOST_DISCOVERED} servers"));
    }
    if let Some(trouble) = resolved.trouble.as_ref().filter(|_| servers.is_empty()) {
        return Err(trouble.clone());
    }
    let ttl = shorter(ttl, resolved.ttl);
    Ok(Found { servers, ttl, trouble: resolved.trouble.clone(), is_partial: resolved.is_partial })
}

/// The servers of these records, by address. Where two records lead to one address, the one that serves first counts.
fn servers(records: &[SRV], addresses: &HashMap<String, Vec<IpAddr>>, max_requests: u32) -> Vec<Server> {
    let mut records: Vec<&SRV> = records.iter().collect();
    records.sort_by_key(|record| (record.priority, u16::MAX - record.weight));
    let mut priorities: Vec<u16> = records.iter().map(|record| record.priority).collect();
    priorities.dedup();
    let mut seen = HashSet::new();
    let mut servers = Vec::new();
    for record in &records {
        // What is compared is only which is lower, so that their ranks will do.
        let rank = priorities.iter().position(|&priority| priority == record.priority).unwrap_or_default();
        let peers = || records.iter().filter(|peer| peer.priority == record.priority).map(|peer| peer.weight);
        let weight = weight(record.weight, peers().max().unwrap_or(0), peers().min().unwrap_or(0));
        for &ip in addresses.get(&target(record)).into_iter().flatten() {
            if servers.len() > MOST_DISCOVERED {
                return servers; // too many, however many there are
            }
            let address = SocketAddr::new(ip, record.port);
            if seen.insert(address) {
                let priority = rank.min(MOST_PRIORITY as usize) as u8;
                servers.push(Server { weight, priority, ..server(address, max_requests) });
            }
        }
    }
    servers.sort_by_cached_key(|server| match server.address {
        Address::Socket(address) => Some(address),
        _ => None,
    });
    servers
}

/// RFC 2782: a weight of 0 among others means a very small chance, and where all are 0 they are alike. Ours of 0 is none at all.
fn weight(own: u16, most: u16, least: u16) -> u16 {
    if most == 0 {
        return 1;
    }
    if least > 0 {
        return own;
    }
    let times = (MOST_WEIGHT as u32 / u32::from(most)).min(LEAST);
    u16::try_from(u32::from(own) * times).unwrap_or(u16::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn record(priority: u16, weight: u16, port: u16, target: &str) -> SRV {
        SRV::new(priority, weight, port, Name::from_ascii(target).unwrap())
    }

    /// `a.` has one address, `b.` two.
    fn of(records: &[SRV]) -> Vec<(String, u8, u16)> {
        let ip = |text: &str| text.parse().unwrap();
        let addresses = HashMap::from([
            ("a.".to_owned(), vec![ip("10.0.0.1")]),
            ("b.".to_owned(), vec![ip("10.0.0.2"), ip("::1")]),
        ]);
        servers(records, &addresses, 7).into_iter().map(|s| (s.name, s.priority, s.weight)).collect()
    }

    #[test]
    fn priorities_are_ranks_and_weights_are_weights() {
        let records = [record(20, 5, 80, "a."), record(10, 60, 81, "B."), record(10, 40, 82, "a.")];
        let expected =
            [("10.0.0.1:80", 1, 5), ("10.0.0.1:82", 0, 40), ("10.0.0.2:81", 0, 60), ("[::1]:81", 0, 60)];
        assert_eq!(
            of(&records),
            expected.map(|(name, priority, weight)| (name.to_owned(), priority, weight))
        );
    }

    #[test]
    fn their_order_has_no_meaning() {
        let mut records = vec![
            record(0, 1, 80, "a."),
            record(1, 2, 80, "a."),
            record(1, 3, 80, "b."),
            record(1, 3, 80, "b."),
        ];
        let first = of(&records);
        assert_eq!(first.len(), 3, "an address counts once, where it serves first: {first:?}");
        assert_eq!(first[0], ("10.0.0.1:80".to_owned(), 0, 1));
        for _ in 0..records.len() {
            records.rotate_left(1);
            assert_eq!(of(&records), first);
        }
    }

    #[test]
    fn a_weight_of_zero_is_the_least_but_not_none() {
        let weights =
            |records: &[SRV]| of(records).into_iter().map(|(.., weight)| weight).collect::<Vec<_>>();
        assert_eq!(weights(&[record(0, 0, 1, "a."), record(0, 0, 2, "a.")]), [1, 1]);
        assert_eq!(
            weights(&[record(0, 0, 1, "a."), record(0, 1, 2, "a."), record(0, 9, 3, "a.")]),
            [1, 100, 900]
        );
        assert_eq!(
            weights(&[record(0, 0, 1, "a."), record(1, 9, 2, "a.")]),
            [1, 9],
            "each priority for itself"
        );
        assert_eq!(weight(65_535, 65_535, 0), 65_535);
        assert_eq!(weight(60_000, 65_535, 0), 60_000);
    }
}
