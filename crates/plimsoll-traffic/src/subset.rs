//! Deterministic subsets: which servers of a large backend one instance uses (rendezvous by instance, as gRPC's A68).
//!
//! In go the instance's name and the servers' names, out come the members that stay. The same instance gets the same subset at every
//! start, and one change of the servers changes at most one of them; over many instances the servers get equal numbers of
//! instances only on average. It must never depend on anything but names.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::hashing::hash_key;

/// Keeps `size` of `members`, in their order.
pub(crate) fn keep<'a>(members: &mut Vec<u32>, size: usize, instance: &str, name: impl Fn(u32) -> &'a str) {
    if members.len() <= size {
        return;
    }
    let seed = hash_key(instance.as_bytes());
    let mut ranked: Vec<(u64, &str, u32)> = members
        .iter()
        .map(|&index| (xxh3_64_with_seed(name(index).as_bytes(), seed), name(index), index))
        .collect();
    ranked.sort_unstable();
    *members = ranked.into_iter().take(size).map(|(_, _, index)| index).collect();
    members.sort_unstable();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subset(servers: &[String], size: usize, instance: &str) -> Vec<String> {
        let mut members: Vec<u32> = (0..servers.len() as u32).collect();
        keep(&mut members, size, instance, |index| &servers[index as usize]);
        members.iter().map(|&m| servers[m as usize].clone()).collect()
    }

    fn servers(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("10.0.0.{i}:80")).collect()
    }

    #[test]
    fn an_instance_has_the_same_subset_whatever_the_order() {
        let mut reversed = servers(200);
        reversed.reverse();
        let mut one = subset(&servers(200), 20, "lb-1");
        let mut other = subset(&reversed, 20, "lb-1");
        one.sort();
        other.sort();
        assert_eq!((one.len(), &one), (20, &other));
        assert_ne!(subset(&servers(200), 20, "lb-2"), subset(&servers(200), 20, "lb-1"));
        assert_eq!(subset(&servers(5), 20, "lb-1"), servers(5));
    }

    #[test]
    fn one_server_more_or_less_changes_at_most_one_entry() {
        let all = servers(200);
        for gone in 0..200 {
            let mut rest = all.clone();
            rest.remove(gone);
            let (before, after) = (subset(&all, 20, "lb-1"), subset(&rest, 20, "lb-1"));
            assert!(before.iter().filter(|s| !after.contains(s)).count() <= 1);
        }
    }

    #[test]
    fn servers_get_instances_as_a_binomial_draw_would_give() {
        let all = servers(100);
        let mut counts = vec![0f64; 100];
        for instance in 0..1_000 {
            for server in subset(&all, 20, &format!("lb-{instance}")) {
                counts[all.iter().position(|s| *s == server).unwrap()] += 1.0;
            }
        }
        // Mean 200, variance 1,000 * 0.2 * 0.8 (a little less, since a subset has no doubles).
        let variance = counts.iter().map(|c| (c - 200.0).powi(2)).sum::<f64>() / 100.0;
        assert!((80.0..260.0).contains(&variance), "{variance}");
        assert_eq!(counts.iter().sum::<f64>(), 20_000.0);
    }
}
