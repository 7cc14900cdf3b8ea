//! Lines about what servers say of themselves: at once, unless a server changes its mind all the time.
//!
//! Words can come four times a second from each server, and standard error is for people. The first few lines within a while are told; of more than that the last
//! one is told when the while is over, with how many there were, so that what was told last is what holds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Lines of one server that are told at once.
const AT_ONCE: u32 = 4;
/// Within so long; beyond, there is one line in this time.
const WHILE: Duration = Duration::from_secs(10);

/// Backend and server.
type Name = (Box<str>, Box<str>);

/// What was told lately, of those servers of which something was.
#[derive(Debug, Default)]
pub(super) struct Telling {
    lately: HashMap<Name, Lately>,
}

#[derive(Debug)]
struct Lately {
    since: Instant,
    told: u32,
    /// The last of those that were not told, and how many there were.
    untold: Option<(String, u32)>,
}

impl Telling {
    /// Something is to be said of a server; gives what is to be told now.
    pub(super) fn say(&mut self, name: Name, lines: Vec<String>, now: Instant) -> Vec<String> {
        if lines.is_empty() {
            return lines;
        }
        let fresh = || Lately { since: now, told: 0, untold: None };
        let lately = self.lately.entry(name).or_insert_with(fresh);
        let tell = |line: String| {
            if lately.told < AT_ONCE {
                lately.told += 1;
                return Some(line);
            }
            let before = lately.untold.take().map_or(0, |(_, count)| count);
            lately.untold = Some((line, before + 1));
            None
        };
        lines.into_iter().filter_map(tell).collect()
    }

    /// What is to be told because a while is over. To be called now and then.
    pub(super) fn over(&mut self, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        self.lately.retain(|_, lately| {
            if now < lately.since + WHILE {
                return true;
            }
            let Some((line, count)) = lately.untold.take() else { return false };
            let others =
                if count > 1 { format!(" (and {} more lines since)", count - 1) } else { String::new() };
            lines.push(format!("{line}{others}"));
            *lately = Lately { since: now, told: AT_ONCE, untold: None };
            true
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        ("web".into(), "a".into())
    }

    #[test]
    fn a_few_lines_are_told_at_once_and_again_after_a_while() {
        let (mut telling, begin) = (Telling::default(), Instant::now());
        let mut say = |count: usize, after: u64| {
            let now = begin + Duration::from_secs(after);
            assert!(telling.over(now).is_empty(), "all was told");
            telling.say(name(), vec!["x".to_owned(); count], now).len()
        };
        assert_eq!([say(2, 0), say(2, 3), say(4, 11), say(0, 12), say(1, 22)], [2, 2, 4, 0, 1]);
    }

    #[test]
    fn of_a_server_that_never_rests_the_last_line_is_told_every_ten_seconds_with_a_count() {
        let (mut telling, begin) = (Telling::default(), Instant::now());
        let mut told: Vec<(u64, String)> = Vec::new();
        for quarter in 0..=120u64 {
            let now = begin + Duration::from_millis(quarter * 250);
            let mut lines = telling.over(now);
            lines.extend(telling.say(name(), vec![format!("line {quarter}")], now));
            told.extend(lines.into_iter().map(|line| (quarter, line)));
        }
        let expected = [
            (0, "line 0"),
            (1, "line 1"),
            (2, "line 2"),
            (3, "line 3"),
            (40, "line 39 (and 35 more lines since)"),
            (80, "line 79 (and 39 more lines since)"),
            (120, "line 119 (and 39 more lines since)"),
        ];
        assert_eq!(told, expected.map(|(quarter, line)| (quarter, line.to_owned())));
    }

    #[test]
    fn others_are_not_concerned_and_nothing_is_kept_of_those_that_are_silent() {
        let (mut telling, begin) = (Telling::default(), Instant::now());
        assert_eq!(telling.say(name(), vec!["x".to_owned(); 9], begin).len(), 4);
        assert_eq!(telling.say(("web".into(), "b".into()), vec!["y".to_owned()], begin).len(), 1);
        assert_eq!(telling.over(begin + WHILE), ["x (and 4 more lines since)"]);
        assert!(telling.over(begin + 2 * WHILE).is_empty() && telling.lately.is_empty());
    }
}
