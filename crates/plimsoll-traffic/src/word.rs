//! What a server says of itself: one line of HAProxy's `agent-check` protocol.
//!
//! In goes the line, out come the wishes in it. Words stand in any order, apart by spaces, tabs or commas, in any case; of several of one kind the
//! last one counts, and a `#` begins the reason. What is not understood changes nothing, and is said. As in HAProxy (its configuration manual, `agent-check`, and
//! `tcpcheck_agent_expect_reply`), what a line does not mention stays as it was. A peer writes it: it can be nonsense, never a panic.

use plimsoll_config::defaults::MOST;
use plimsoll_config::model::ServerState;

/// The largest share, in percent: HAProxy's, beyond which it says the same.
const MOST_PERCENT: u32 = 25_600;
/// Of what a peer writes, in characters, for people.
const SHOWN: usize = 200;

/// What one line says; `None` is not mentioned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// `ready`, `drain` or `maint`.
    pub state: Option<ServerState>,
    /// `up`, or why not.
    pub health: Option<Claim>,
    /// Percent of the server's weight.
    pub share: Option<u32>,
    /// Requests in flight at once; 0 is as many as the file says.
    pub max_requests: Option<u32>,
    /// What stands behind `#`.
    pub reason: String,
    /// The first word that was not understood.
    pub unknown: Option<String>,
}

/// Whether a server can serve, as it says itself. Those that are not `Up` mean the same to us; the word is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It can.
    Up,
    /// It is seen not to work.
    Down,
    /// It works and fails some test.
    Fail,
    /// Somebody stopped it.
    Stopped,
}

impl Claim {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Claim::Up => "up",
            Claim::Down => "down",
            Claim::Fail => "fail",
            Claim::Stopped => "stopped",
        }
    }

    /// By its name, in any case.
    pub fn named(word: &str) -> Option<Claim> {
        let all = [Claim::Up, Claim::Down, Claim::Fail, Claim::Stopped];
        all.into_iter().find(|stand| word.eq_ignore_ascii_case(stand.as_str()))
    }
}

impl Word {
    /// Reads a line, without its end.
    pub fn parse(line: &[u8]) -> Word {
        let line = String::from_utf8_lossy(line);
        let (words, reason) = description(&line);
        let mut said = Word { reason: shown(reason.trim()), ..Word::default() };
        words.split([' ', '\t', ',']).filter(|word| !word.is_empty()).for_each(|word| said.take(word));
        said
    }

    fn take(&mut self, word: &str) {
        let state = ServerState::ALL.into_iter().find(|state| word.eq_ignore_ascii_case(state.as_str()));
        let most = word.get(..8).filter(|start| start.eq_ignore_ascii_case("maxconn:"));
        let understood = if let Some(stand) = Claim::named(word) {
            self.health = Some(stand);
            true
        } else if state.is_some() {
            self.state = state;
            true
        } else if let Some(percent) = word.strip_suffix('%') {
            number(percent, MOST_PERCENT).map(|share| self.share = Some(share)).is_some()
        } else if most.is_some() {
            number(&word[8..], MOST as u32).map(|most| self.max_requests = Some(most)).is_some()
        } else {
            false
        };
        if !understood && self.unknown.is_none() {
            self.unknown = Some(shown(word));
        }
    }

    /// What is said after it: what that mentions counts, and the rest stays.
    pub fn then(&mut self, later: Word) {
        self.state = later.state.or(self.state);
        self.health = later.health.or(self.health);
        self.share = later.share.or(self.share);
        self.max_requests = later.max_requests.or(self.max_requests);
        if later.takes_out() {
            self.reason = later.reason;
        }
        self.unknown = later.unknown.or(self.unknown.take());
    }

    /// Whether it wants the server out: what a reason is about.
    pub fn takes_out(&self) -> bool {
        self.state.is_some_and(|state| state != ServerState::Ready)
            || self.health.is_some_and(|claim| claim != Claim::Up)
    }

    /// Whether it wishes anything.
    pub fn says_something(&self) -> bool {
        self.state.is_some() || self.health.is_some() || self.share.is_some() || self.max_requests.is_some()
    }
}

/// The words, and what stands behind the first `#` that begins one: within a word it is a part of it.
fn description(line: &str) -> (&str, &str) {
    let begins = |at: &usize| *at == 0 || line[..*at].ends_with([' ', '\t', ',']);
    let found = line.match_indices('#').map(|(at, _)| at).find(begins);
    found.map_or((line, ""), |at| (&line[..at], &line[at + 1..]))
}

/// Digits alone; what is more than `most` counts as that.
fn number(text: &str, most: u32) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse::<u64>().map_or(most, |number| number.min(u64::from(most)) as u32))
}

/// For logs and pages: bounded, and without what could pretend to be a line of its own.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(line: &str) -> Word {
        Word::parse(line.as_bytes())
    }

    #[test]
    fn haproxys_examples_mean_what_its_manual_says() {
        assert_eq!(word("75%"), Word { share: Some(75), ..Word::default() });
        assert_eq!(word("maxconn:30"), Word { max_requests: Some(30), ..Word::default() });
        for state in ServerState::ALL {
            assert_eq!(word(state.as_str()), Word { state: Some(state), ..Word::default() });
        }
        for name in ["up", "down", "fail", "stopped"] {
            assert_eq!(word(name).health.map(Claim::as_str), Some(name));
        }
        // The line of its own test of agents.
        let all = word("75%,maxconn:30,maint,down");
        assert_eq!((all.share, all.max_requests), (Some(75), Some(30)));
        assert_eq!((all.state, all.health), (Some(ServerState::Maint), Some(Claim::Down)));
        assert_eq!((all.unknown, &*all.reason), (None, ""));
    }

    #[test]
    fn words_stand_in_any_order_and_case_and_the_last_of_a_kind_counts() {
        let said = word(" \tUP,, Drain\t50% 0%, READY MaxConn:7 ,# cache is cold # really ");
        assert_eq!((said.health, said.state), (Some(Claim::Up), Some(ServerState::Ready)));
        assert_eq!((said.share, said.max_requests), (Some(0), Some(7)));
        assert_eq!(said.reason, "cache is cold # really");
        assert_eq!(word("#down").reason, "down");
        assert_eq!(word("#down").health, None, "a description wishes nothing");
    }

    #[test]
    fn a_sharp_within_a_word_is_part_of_it() {
        assert_eq!(word("down#full").unknown.as_deref(), Some("down#full"));
        assert_eq!((word("x#y down #z").health, word("x#y down #z").reason), (Some(Claim::Down), "z".into()));
    }

    #[test]
    fn what_is_not_understood_is_said_and_changes_nothing() {
        for nonsense in [
            "hello",
            "75",
            "%",
            "-1%",
            "7.5%",
            "1e3%",
            "75%%",
            "maxconn",
            "maxconn:",
            "maxconn:-1",
            "maxconn: 3x",
        ] {
            let said = word(nonsense);
            assert!(!said.says_something(), "{nonsense}: {said:?}");
            assert!(said.unknown.is_some(), "{nonsense}");
        }
        let said = word("80% what up");
        assert_eq!(
            (said.share, said.health, said.unknown.as_deref()),
            (Some(80), Some(Claim::Up), Some("what"))
        );
        assert_eq!(word(""), Word::default());
    }

    #[test]
    fn numbers_that_are_too_large_count_as_the_largest() {
        assert_eq!(word("99999999999999999999999%").share, Some(MOST_PERCENT));
        assert_eq!(word("maxconn:99999999999999999999999").max_requests, Some(MOST as u32));
    }

    #[test]
    fn whatever_a_peer_writes_is_bounded_and_without_control_characters() {
        let said = Word::parse(&[b"down #\x1b[2J\n".as_slice(), &[0xff; 100_000], &[0xc3, 0xa9, 0]].concat());
        assert_eq!(said.health, Some(Claim::Down));
        assert!(said.reason.chars().count() <= SHOWN && !said.reason.contains(char::is_control));
        let unknown = Word::parse(&[b'x'; 100_000]).unknown.unwrap();
        assert_eq!(unknown.chars().count(), SHOWN);
        assert_eq!(Word::parse("maxconné:3".as_bytes()).unknown.as_deref(), Some("maxconné:3"));
    }
}
