//! What servers say of themselves, on its way to whoever decides what is served.
//!
//! In come words, from workers that read answers and from the thread that asks agents; out come, for each server once, all that was said since the last look, and a
//! wake-up. Bounded: a server that talks all the time only overwrites what it said. Workers come here only with a word that is new, never for every answer.

use std::collections::HashMap;
use std::sync::PoisonError;

use plimsoll_config::model::Address;
use plimsoll_traffic::{Lease, Server, Word};
use tokio::sync::Notify;

use crate::sync::Mutex;

/// How a word came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// An agent was asked.
    Agent,
    /// It stood in an answer.
    Answer,
}

/// What was heard of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// The backend's name.
    pub backend: Box<str>,
    /// The server's name.
    pub server: Box<str>,
    /// Where it listens: by name and address it is the one that spoke.
    pub address: Address,
    /// All that it said.
    pub word: Word,
    /// How that came which takes it out, if anything does.
    pub told: Told,
}

/// Who said something.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Speaker {
    backend: Box<str>,
    server: Box<str>,
}

/// The way from those who hear to the one who acts.
#[derive(Debug, Default)]
pub struct Words {
    /// Held for as long as it takes to move one in.
    pending: Mutex<HashMap<Speaker, Heard>>,
    wake: Notify,
}

impl Words {
    /// A server of the named backend says a word.
    pub fn say(&self, backend: &str, server: &Server, word: Word, told: Told) {
        self.say_if(backend, server, told, || Some(word));
    }

    /// The server of `lease`, of the named backend, said this with an answer. Nearly always it is what it says all the time, and nothing is written or locked.
    pub fn hear(&self, backend: &str, lease: &Lease, word: &[u8]) {
        if lease.is_news(word) {
            let news = || lease.takes_news(word).then(|| Word::parse(word));
            self.say_if(backend, lease.server(), Told::Answer, news);
        }
    }

    /// A word that is only found out to be new once nobody else can say another one in between.
    fn say_if(&self, backend: &str, server: &Server, told: Told, news: impl FnOnce() -> Option<Word>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(word) = news() else { return };
        let key = Speaker { backend: backend.into(), server: server.name.clone() };
        match pending.get_mut(&key).filter(|earlier| earlier.address == server.address) {
            Some(earlier) => {
                earlier.told = if word.takes_out() { told } else { earlier.told };
                earlier.word.then(word);
            }
            None => {
                let (backend, address) = (key.backend.clone(), server.address.clone());
                let heard = Heard { backend, server: server.name.clone(), address, word, told };
                pending.insert(key, heard);
            }
        }
        drop(pending);
        self.wake.notify_one();
    }

    /// Waits until something was said since the last call. May be dropped and asked again.
    pub async fn spoken(&self) {
        self.wake.notified().await;
    }

    /// All that was said since the last call, in no order.
    pub fn take(&self) -> Vec<Heard> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *pending).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_config::model::{self, Balance, ServerState};
    use plimsoll_traffic::Backend;

    use super::*;

    fn backend(port: u16) -> Backend {
        let server = model::Server::new("s", Address::Socket(([127, 0, 0, 1], port).into()));
        Backend::new(&model::Backend::new("b", vec![server], Balance::P2c), None)
    }

    #[test]
    fn who_talks_all_the_time_takes_the_room_of_one() {
        let (words, backend) = (Words::default(), backend(1));
        let say =
            |line: &str| words.say("b", &backend.servers[0], Word::parse(line.as_bytes()), Told::Answer);
        say("maxconn:7 drain # first");
        (0..1_000).for_each(|i| say(&format!("{}%", i % 90)));
        say("50% up");
        let heard = words.take();
        assert_eq!(heard.len(), 1);
        let word = &heard[0].word;
        assert_eq!(
            (word.share, word.max_requests, word.state),
            (Some(50), Some(7), Some(ServerState::Drain))
        );
        assert!(words.take().is_empty());
    }

    #[test]
    fn what_another_at_the_same_name_said_is_not_mixed_in() {
        let (words, old, new) = (Words::default(), backend(1), backend(2));
        words.say("b", &old.servers[0], Word::parse(b"drain"), Told::Agent);
        words.say("b", &new.servers[0], Word::parse(b"50%"), Told::Agent);
        let heard = words.take();
        assert_eq!((heard.len(), heard[0].word.state, heard[0].word.share), (1, None, Some(50)));
        assert_eq!(heard[0].address, new.servers[0].address);
    }
}
