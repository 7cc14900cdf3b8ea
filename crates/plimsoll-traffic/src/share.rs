//! Weights as servers wish them: what the file says, times the percent that a server asks for.
//!
//! In go servers, out come whole numbers in the same proportion, so that every table of the backend can be made of them. Where all want their whole weight they are
//! the file's own. A server that wants something never gets nothing.

use plimsoll_config::model::Server;

/// By server. Exact as long as the numbers fit; else the largest is as large as a weight can be, and none that is wanted is 0.
pub(crate) fn weights(servers: &[Server]) -> Vec<u16> {
    if servers.iter().all(|server| server.said.share == 100) {
        return servers.iter().map(|server| server.weight).collect();
    }
    let wanted = |server: &Server| u64::from(server.weight) * u64::from(server.said.share);
    let common = servers.iter().map(wanted).fold(0, gcd).max(1);
    let largest = servers.iter().map(wanted).max().unwrap_or(0) / common;
    let most = u64::from(u16::MAX);
    let fit = |weight: u64| {
        if largest > most { (weight * most / largest).max(u64::from(weight > 0)) } else { weight }
    };
    servers.iter().map(|server| u16::try_from(fit(wanted(server) / common)).unwrap_or(u16::MAX)).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use plimsoll_config::model::{Address, Said};

    use super::*;

    fn of(servers: &[(u16, u32)]) -> Vec<u16> {
        let server = |&(weight, share): &(u16, u32)| Server {
            weight,
            said: Said { share, down: false },
            ..Server::new("s", Address::Name("s".into(), 1))
        };
        weights(&servers.iter().map(server).collect::<Vec<_>>())
    }

    #[test]
    fn without_a_word_weights_are_the_files() {
        assert_eq!(of(&[(2, 100), (4, 100), (0, 100)]), [2, 4, 0]);
    }

    #[test]
    fn shares_are_exact_even_of_weight_1() {
        assert_eq!(of(&[(1, 75), (1, 100), (1, 100)]), [3, 4, 4]);
        assert_eq!(of(&[(1, 33), (2, 100)]), [33, 200]);
        assert_eq!(of(&[(5, 0), (5, 100), (5, 200)]), [0, 1, 2]);
        assert_eq!(of(&[(5, 0), (7, 0)]), [0, 0], "nobody wants anything");
    }

    #[test]
    fn what_does_not_fit_keeps_its_proportion_and_nobody_is_lost() {
        assert_eq!(of(&[(65_535, 100), (65_535, 99), (1, 1)]), [65_535, 64_879, 1]);
        assert_eq!(of(&[(65_535, 25_600), (0, 25_600)]), [1, 0]);
    }
}
