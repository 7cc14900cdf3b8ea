//! What servers say of themselves, as a part of what is wanted: above the file and discovery, below operators' orders.
//!
//! In come words as they are heard, out goes what of them is in force. A server can ask for less than the file gives it and take that back, and for another share and another number of
//! requests; it cannot undo what the file or an operator says. What it said belongs to its name and address, stays until it says otherwise, and ends where nobody is to be heard any more.

use std::collections::{BTreeMap, HashMap};

use plimsoll_config::model::{Address, Backend, Server, ServerState};
use plimsoll_proxy::{Heard, Told};
use plimsoll_traffic::{Claim, Word};
use serde_json::{Value, json};

use super::{Order, Presence, Wanted, index};

/// By backend and server.
pub(super) type All = BTreeMap<(String, String), Spoken>;

/// What one server has said, as far as it is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Spoken {
    /// Without what says no more than usual: `ready`, `up`, `100%` and `maxconn:0`.
    word: Word,
    /// How that came which takes the server out, or else the first of it.
    told: Told,
    /// When what it said last changed, in milliseconds since 1970.
    since: u64,
    /// Whose it is.
    address: Address,
}

/// What followed from a word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effect {
    /// Something other is wanted now.
    pub changes: bool,
    /// What the operator should know.
    pub lines: Vec<String>,
}

impl Wanted {
    /// A server said something, at `now`, in milliseconds since 1970.
    pub fn hear(&mut self, heard: &Heard, now: u64) -> Effect {
        if !self.hears(&heard.backend, &heard.server, &heard.address) {
            return Effect::default(); // it was said before a change that has been made since
        }
        let key = (heard.backend.to_string(), heard.server.to_string());
        let before = self.words.get(&key).filter(|spoken| spoken.address == heard.address);
        let old = before.map_or_else(Word::default, |spoken| spoken.word.clone());
        let mut word = old.clone();
        word.then(heard.word.clone());
        word.unknown.clone_from(&heard.word.unknown);
        usual_left_out(&mut word);
        if word == old {
            return Effect::default();
        }
        let told = match before {
            Some(spoken) if !heard.word.takes_out() => spoken.told,
            _ => heard.told,
        };
        let lines = lines(&key, &old, &word, heard.told);
        let address = heard.address.clone();
        if word == Word::default() {
            self.words.remove(&key);
        } else {
            self.words.insert(key, Spoken { word, told, since: now, address });
        }
        self.drop_idle_order(&heard.backend, &heard.server);
        Effect { changes: true, lines }
    }

    /// What a server has said that is in force.
    pub fn spoken(&self, backend: &str, server: &str) -> Option<&Spoken> {
        self.words.get(&(backend.to_owned(), server.to_owned()))
    }

    /// Makes of a server what it says itself.
    pub(super) fn hark(&self, backend: &str, server: &mut Server) {
        if !self.words.is_empty()
            && let Some(spoken) = self.spoken(backend, &server.name)
        {
            spoken.apply(server);
        }
    }

    /// Forgets what is nobody's word any more, and orders that said otherwise. For when anything but words has changed.
    pub(super) fn settle_words(&mut self) {
        if self.words.is_empty() {
            return;
        }
        let mut words = std::mem::take(&mut self.words);
        let base = index(&self.base);
        let specs: HashMap<&str, &Backend> =
            self.base.backends.iter().map(|spec| (spec.name.as_str(), spec)).collect();
        words.retain(|(backend, name), spoken| {
            let (spec, found) = (specs.get(backend.as_str()), base.get(&(backend.as_str(), name.as_str())));
            listens(spec.copied(), self.order(backend, name), found.copied(), &spoken.address)
        });
        self.words = words;
        for (backend, orders) in &mut self.orders {
            orders.retain(|name, order| {
                let spoken = self.words.get(&(backend.clone(), name.clone()));
                order.drop_idle(base.get(&(backend.as_str(), name.as_str())).copied(), spoken);
                order.says_something()
            });
        }
        self.orders.retain(|_, orders| !orders.is_empty());
    }

    /// The same where only this server is another one than before.
    pub(super) fn settle_word(&mut self, backend: &str, name: &str) {
        if self.words.is_empty() {
            return;
        }
        let address = self.spoken(backend, name).map(|spoken| spoken.address.clone());
        if address.is_some_and(|address| !self.hears(backend, name, &address)) {
            self.words.remove(&(backend.to_owned(), name.to_owned()));
        }
        self.drop_idle_order(backend, name);
    }

    fn hears(&self, backend: &str, name: &str, address: &Address) -> bool {
        listens(self.spec(backend).ok(), self.order(backend, name), self.base(backend, name), address)
    }

    /// An order that only said otherwise than a word has nothing to say once the word is taken back; if it stayed, the server could
    /// never be heard again.
    pub(super) fn drop_idle_order(&mut self, backend: &str, name: &str) {
        if let Some(mut order) = self.order(backend, name).cloned() {
            order.drop_idle(self.base(backend, name), self.spoken(backend, name));
            self.put(backend, name, order);
        }
    }

    pub(super) fn words_handed(&self) -> Value {
        let one = |((backend, server), spoken): (&(String, String), &Spoken)| {
            let word = &spoken.word;
            json!({
                "backend": backend,
                "server": server,
                "address": spoken.address.to_string(),
                "state": word.state.map(ServerState::as_str),
                "health": word.health.map(Claim::as_str),
                "share": word.share,
                "max_requests": word.max_requests,
                "reason": word.reason,
                "unknown": word.unknown,
                "told": spoken.told(),
                "since": spoken.since,
            })
        };
        self.words.iter().map(one).collect()
    }

    /// Takes over what another process heard, from those that are still to be heard.
    pub(super) fn recall_words(&mut self, said: &Value) {
        for one in said.as_array().map_or(&[][..], Vec::as_slice) {
            self.words.extend(spoken(one));
        }
        self.settle_words();
    }
}

impl Spoken {
    /// How that came which takes the server out, or else the first of it.
    pub fn told(&self) -> &'static str {
        match self.told {
            Told::Agent => "agent",
            Told::Answer => "answer",
        }
    }

    /// When it last changed, in milliseconds since 1970.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// All of it, as it would be said in one line.
    pub fn line(&self) -> String {
        let Word { state, health, share, max_requests, .. } = &self.word;
        let words = [
            state.map(|state| state.as_str().to_owned()),
            health.map(|claim| claim.as_str().to_owned()),
            share.map(|share| format!("{share}%")),
            max_requests.map(|most| format!("maxconn:{most}")),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// Why, in its own words; empty if it did not say.
    pub fn reason(&self) -> &str {
        &self.word.reason
    }

    /// What it said that was not understood.
    pub fn unknown(&self) -> Option<&str> {
        self.word.unknown.as_deref()
    }

    /// The state that it says it is in.
    pub fn state(&self) -> Option<ServerState> {
        self.word.state
    }

    /// Whether it takes the server out.
    pub fn takes_out(&self) -> bool {
        self.word.state.is_some() || self.word.health.is_some()
    }

    /// Whether it wants another share.
    pub(super) fn shares(&self) -> bool {
        self.word.share.is_some()
    }

    pub(super) fn apply(&self, server: &mut Server) {
        if self.address != server.address {
            return;
        }
        if let Some(state) = self.word.state {
            // The stricter of the two: nobody may undo by it what the file says.
            let is_stricter = server.state == ServerState::Ready || state == ServerState::Maint;
            server.state = if is_stricter { state } else { server.state };
        }
        server.said.down = self.word.health.is_some();
        server.said.share = self.word.share.unwrap_or(server.said.share);
        server.max_requests = self.word.max_requests.unwrap_or(server.max_requests);
    }
}

impl Order {
    /// Drops what is so anyway, by what the file or discovery says and without a word against it.
    fn drop_idle(&mut self, base: Option<&Server>, spoken: Option<&Spoken>) {
        let is_added = matches!(self.presence, Presence::Added(_));
        let takes_out = spoken.is_some_and(Spoken::takes_out);
        let shares = spoken.is_some_and(Spoken::shares);
        let same_state = |state: &ServerState| is_added || base.is_some_and(|base| base.state == *state);
        let same_weight = |weight: &u16| is_added || base.is_some_and(|base| base.weight == *weight);
        self.state = self.state.filter(|state| takes_out || !same_state(state));
        self.weight = self.weight.filter(|weight| shares || !same_weight(weight));
    }
}

/// Whether anybody is to hear what a server says that an operator added, or else the file or discovery has.
fn listens(spec: Option<&Backend>, order: Option<&Order>, found: Option<&Server>, address: &Address) -> bool {
    let added = order.and_then(|order| match &order.presence {
        Presence::Added(server) => Some(server),
        _ => None,
    });
    spec.zip(added.or(found)).is_some_and(|(spec, server)| {
        server.address == *address && (spec.agent_header.is_some() || spec.agent_of(server).is_some())
    })
}

/// What is so without a word is not in force by it.
fn usual_left_out(word: &mut Word) {
    word.state = word.state.filter(|state| *state != ServerState::Ready);
    word.health = word.health.filter(|claim| *claim != Claim::Up);
    word.share = word.share.filter(|share| *share != 100);
    word.max_requests = word.max_requests.filter(|most| *most > 0);
    if word.state.is_none() && word.health.is_none() {
        word.reason.clear();
    }
}

/// Shares change all the time; states are worth a line.
fn lines((backend, server): &(String, String), old: &Word, new: &Word, told: Told) -> Vec<String> {
    let by = if told == Told::Agent { "by its agent" } else { "in an answer" };
    let mut lines = Vec::new();
    let mut says = |word: &str| {
        let reason = if new.reason.is_empty() { String::new() } else { format!(": {}", new.reason) };
        lines.push(format!("server {backend}/{server} says {by} `{word}`{reason}"));
    };
    if old.state != new.state {
        says(new.state.map_or("ready", ServerState::as_str));
    }
    if old.health != new.health {
        says(new.health.map_or("up", Claim::as_str));
    }
    if let Some(word) = new.unknown.as_ref().filter(|_| old.unknown != new.unknown) {
        lines.push(format!("server {backend}/{server} says {by} what is not understood: `{word}`"));
    }
    lines
}

fn spoken(said: &Value) -> Option<((String, String), Spoken)> {
    let text = |key: &str| said[key].as_str().map(str::to_owned);
    let number = |key: &str| said[key].as_u64().and_then(|n| u32::try_from(n).ok());
    let word = Word {
        state: said["state"].as_str().and_then(|state| state.parse().ok()),
        health: said["health"].as_str().and_then(Claim::named),
        share: number("share"),
        max_requests: number("max_requests"),
        reason: text("reason").unwrap_or_default(),
        unknown: text("unknown"),
    };
    let told = if said["told"] == "answer" { Told::Answer } else { Told::Agent };
    let address = said["address"].as_str()?.parse().ok()?;
    let since = said["since"].as_u64()?;
    Some(((text("backend")?, text("server")?), Spoken { word, told, since, address }))
}

#[cfg(test)]
mod tests {
    use plimsoll_config::model::{Agent, Config};

    use super::super::Change;
    use super::*;

    const B: &str = "listen :8080";

    fn file() -> Config {
        let servers = ["10.0.0.1:1", "10.0.0.2:1"].map(str::to_owned);
        let mut file = plimsoll_config::from_flags(&[":8080".to_owned()], &servers).unwrap().config;
        let second = std::time::Duration::from_secs(1);
        let agent = Agent { port: 9, address: None, every: second, timeout: second, send: String::new() };
        file.backends[0].agent = Some(agent);
        file
    }

    fn wanted() -> Wanted {
        Wanted::new(file(), file())
    }

    fn say(wanted: &mut Wanted, line: &str) -> Effect {
        let address = "10.0.0.1:1".parse().unwrap();
        let word = Word::parse(line.as_bytes());
        let heard =
            Heard { backend: B.into(), server: "10.0.0.1:1".into(), address, word, told: Told::Agent };
        wanted.hear(&heard, 7)
    }

    fn order(wanted: &mut Wanted, state: Option<ServerState>, weight: Option<u16>) {
        let change = Change::Set { server: "10.0.0.1:1".into(), state, weight };
        wanted.change(B, &change, "me", 1).unwrap();
    }

    /// State, percent, whether it says that it is down.
    fn first(wanted: &Wanted) -> (ServerState, u32, bool) {
        let server = &wanted.compose().backends[0].servers[0];
        assert_eq!(wanted.server(B, &server.name).as_ref(), Some(server), "one way to see it");
        (server.state, server.said.share, server.said.down)
    }

    use ServerState::{Drain, Maint, Ready};

    #[test]
    fn what_a_line_does_not_mention_stays_and_only_the_server_takes_it_back() {
        let mut wanted = wanted();
        assert_eq!(say(&mut wanted, "drain 50% # cache is cold").lines.len(), 1);
        assert_eq!(first(&wanted), (Drain, 50, false));
        assert_eq!(wanted.spoken(B, "10.0.0.1:1").unwrap().line(), "drain 50%");
        say(&mut wanted, "down maxconn:7 # disk full");
        assert_eq!(first(&wanted), (Drain, 50, true));
        assert_eq!(wanted.compose().backends[0].servers[0].max_requests, 7);
        assert_eq!(wanted.spoken(B, "10.0.0.1:1").unwrap().reason(), "disk full");
        assert!(!say(&mut wanted, "").changes, "nothing said is nothing taken back");
        say(&mut wanted, "ready up");
        assert_eq!(first(&wanted), (Ready, 50, false));
        say(&mut wanted, "100% maxconn:0");
        assert_eq!((first(&wanted), wanted.spoken(B, "10.0.0.1:1")), ((Ready, 100, false), None));
        assert_eq!(wanted.compose(), file());
    }

    #[test]
    fn it_cannot_undo_what_the_file_says() {
        let mut file = file();
        file.backends[0].servers[0].state = Drain;
        let mut wanted = Wanted::new(file.clone(), file);
        say(&mut wanted, "ready up");
        assert_eq!(first(&wanted).0, Drain);
        say(&mut wanted, "maint");
        assert_eq!(first(&wanted).0, Maint);
        say(&mut wanted, "drain");
        assert_eq!(first(&wanted).0, Drain);
    }

    #[test]
    fn operators_stand_above_it() {
        let mut wanted = wanted();
        say(&mut wanted, "drain down 10%");
        order(&mut wanted, Some(Ready), Some(3));
        assert_eq!(
            (first(&wanted), wanted.compose().backends[0].servers[0].weight),
            ((Ready, 100, false), 3)
        );
        order(&mut wanted, Some(Maint), None);
        say(&mut wanted, "ready up 100%");
        assert_eq!(first(&wanted).0, Maint, "not lifted by the server");
        order(&mut wanted, Some(Ready), None);
        assert_eq!(first(&wanted).0, Ready);
    }

    #[test]
    fn an_order_against_a_word_ends_with_it_so_that_the_next_word_is_heard() {
        let mut wanted = wanted();
        say(&mut wanted, "drain 10%");
        order(&mut wanted, Some(Ready), Some(1));
        assert_eq!((first(&wanted), wanted.orders().count()), ((Ready, 100, false), 1));
        say(&mut wanted, "ready 100%");
        assert_eq!(wanted.orders().count(), 0);
        say(&mut wanted, "drain 20%");
        assert_eq!(first(&wanted), (Drain, 20, false));
    }

    #[test]
    fn a_word_ends_with_its_address_or_when_nobody_is_to_be_heard() {
        let with = |change: &dyn Fn(&mut Config)| {
            let mut wanted = wanted();
            say(&mut wanted, "drain");
            let mut next = file();
            change(&mut next);
            wanted.reload(next.clone(), next);
            wanted.spoken(B, "10.0.0.1:1").is_some()
        };
        assert!(with(&|next| next.backends[0].servers[0].weight = 5));
        assert!(!with(&|next| next.backends[0].servers[0].address = "10.0.0.9:1".parse().unwrap()));
        assert!(!with(&|next| next.backends[0].agent = None));
        let mut deaf = wanted();
        deaf.base.backends[0].agent = None;
        assert_eq!((say(&mut deaf, "drain").changes, first(&deaf).0), (false, Ready));
    }

    #[test]
    fn a_server_that_an_operator_added_is_heard_too() {
        let mut wanted = wanted();
        wanted.change(B, &Change::Remove("10.0.0.1:1".into()), "me", 1).unwrap();
        let server = Server::new("10.0.0.1:1", "10.0.0.1:1".parse().unwrap());
        wanted.change(B, &Change::Add(Server { weight: 9, ..server }), "me", 1).unwrap();
        say(&mut wanted, "drain");
        assert_eq!(first(&wanted).0, Drain);
        order(&mut wanted, Some(Ready), None);
        assert_eq!(first(&wanted).0, Ready);
        say(&mut wanted, "ready");
        say(&mut wanted, "drain");
        assert_eq!(first(&wanted).0, Drain);
    }

    #[test]
    fn the_next_process_has_heard_the_same() {
        let mut old = wanted();
        say(&mut old, "drain fail 50% maxconn:3 hello # why");
        let mut new = wanted();
        new.recall(&old.handover());
        assert_eq!(new, old);
        let mut deaf = wanted();
        deaf.base.backends[0].agent = None;
        deaf.recall(&old.handover());
        assert!(deaf.words.is_empty());
        new.recall(&json!({ "words": [7, {}, { "backend": B, "server": "x", "address": "10.0.0.1:1" }] }));
        assert_eq!(new, old, "nonsense is left out");
    }

    #[test]
    fn what_is_not_understood_is_told_once() {
        let mut wanted = wanted();
        let told = say(&mut wanted, "hello").lines;
        assert_eq!(
            told,
            [format!("server {B}/10.0.0.1:1 says by its agent what is not understood: `hello`")]
        );
        assert!(say(&mut wanted, "hello").lines.is_empty());
        assert_eq!(first(&wanted), (Ready, 100, false));
    }
}
