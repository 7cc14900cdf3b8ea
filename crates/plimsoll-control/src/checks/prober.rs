//! When which server is asked, and who hears of the result.
//!
//! In come snapshots; each server that is checked has a job, which keeps its rhythm as long as server and check stay. Jobs are spread over time: the
//! first check of a new server is at once, the second after a random part of the interval, later ones an interval ± 20 % apart. At most so many of a kind go on
//! at once, and never two for one server; what is due and has no room waits its turn.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::{self, Address, ServerState};
use plimsoll_proxy::{Snapshot, Told, Words, notice, now};
use plimsoll_traffic::{Backend, Dice, Word};
use rustix::process::{Resource, getrlimit};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::agent::{Asking, Errand, Found};
use super::due::{Due, Kind};
use super::question::{Question, Trouble};

/// Servers are asked together, which halves what a check costs: the thread wakes less often, and what it needs is in the caches. For that each may be asked early
/// by this part of its interval, whose chance is eight times as wide.
const EARLY: u32 = 40;
/// So many together, and more only if the time of more has come.
const TOGETHER: usize = 32;
/// So often the operator hears that an agent says nothing, or that it does again,
const TOLD_LATELY: u32 = 4;
/// within so long.
const LATELY: Duration = Duration::from_secs(10);

/// Everything that is checked.
pub(super) struct Prober {
    jobs: HashMap<u64, Job>,
    ids: HashMap<Key, u64>,
    /// Those that are not being asked, by when they are to be, and how many are.
    due: Due,
    running: JoinSet<Ended>,
    /// By task: whose places it takes, and whose it is, unless nobody wants to know any more.
    tasks: HashMap<tokio::task::Id, (Kind, Option<u64>)>,
    next: u64,
    dice: Dice,
    /// Where words go.
    words: Arc<Words>,
}

/// What a check found, and how long it took.
type Ended = (Result<Found, Trouble>, Duration);

/// Backend, server, address.
type Identity = (Box<str>, Box<str>, Address);

/// Of a server there can be two jobs; the second is its agent's.
type Key = (Identity, bool);

struct Job {
    errand: Arc<Errand>,
    backend: Arc<Backend>,
    server: usize,
    /// When it is asked next; while it is being asked, when that began or was to begin.
    at: Instant,
    asking: Option<AbortHandle>,
    is_spread: bool,
    /// What the agent said last.
    said: Option<Word>,
    /// It is an agent's, and it was told that it could not be asked.
    is_silent: bool,
    /// How often that, or that it can be again, was told lately, and since when.
    told: (u32, Instant),
}

impl Prober {
    pub(super) fn new() -> Prober {
        let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize);
        Prober {
            jobs: HashMap::new(),
            ids: HashMap::new(),
            due: Due::new(limit),
            running: JoinSet::new(),
            tasks: HashMap::new(),
            next: 0,
            dice: Dice::new(RandomState::new().hash_one(std::process::id())),
            words: Arc::default(),
        }
    }

    /// Until nobody publishes any more. What is being asked then is abandoned.
    pub(super) async fn run(mut self, mut changes: watch::Receiver<Option<Arc<Snapshot>>>) {
        loop {
            self.begin_due();
            let next = self.due.next();
            // The losers are only waits: a result that is not taken now is taken in the next turn.
            tokio::select! {
                changed = changes.changed() => {
                    let snapshot = changes.borrow_and_update().clone();
                    match (changed, snapshot) {
                        (Err(_), _) => return,
                        (Ok(()), Some(snapshot)) => self.adopt(&snapshot),
                        (Ok(()), None) => {}
                    }
                }
                Some(ended) = self.running.join_next_with_id(), if !self.running.is_empty() => {
                    self.end(ended);
                    while let Some(ended) = self.running.try_join_next_with_id() {
                        self.end(ended);
                    }
                }
                () = wait(next) => {}
            }
        }
    }

    /// Checks what `snapshot` says from now on.
    fn adopt(&mut self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut self.ids);
        self.words = Arc::clone(&snapshot.words);
        for (spec, backend) in snapshot.config.backends.iter().zip(&snapshot.backends) {
            for (server, known) in spec.servers.iter().enumerate() {
                let identity = (spec.name.as_str().into(), known.name.as_str().into(), known.address.clone());
                // One in maintenance is not expected to work. Its agent may have sent it there, and nobody else can call it back.
                let check = spec.check_of(known).filter(|_| known.state != ServerState::Maint);
                let check = check.map(|check| Errand::Check(Box::new(question(check, &identity))));
                let agent = spec.agent_of(known).and_then(|agent| Asking::of(agent, &known.address));
                for errand in check.into_iter().chain(agent.map(Errand::Agent)) {
                    let key = (identity.clone(), errand.is_agents());
                    let id = before.remove(&key);
                    let id = self.take(id, errand, backend, server);
                    self.ids.insert(key, id);
                }
            }
        }
        for id in before.into_values() {
            if let Some(job) = self.jobs.remove(&id) {
                self.due.remove(job.errand.kind(), job.at, id);
                if let Some(asking) = job.asking {
                    asking.abort();
                }
            }
        }
    }

    /// A job goes on, or begins.
    fn take(&mut self, id: Option<u64>, errand: Errand, backend: &Arc<Backend>, server: usize) -> u64 {
        let now = Instant::now();
        let Some((id, job)) = id.and_then(|id| Some((id, self.jobs.get_mut(&id)?))) else {
            // One of which something is known already comes from another process: it need not be asked at once. One that comes back from maintenance has to be.
            let is_new = errand.is_agents() || backend.awaits_check(server);
            let wait = if is_new { 0.0 } else { self.dice.unit() };
            let at = now + errand.every().mul_f64(wait);
            let is_spread = wait > 0.0;
            let (id, backend) = (self.next, Arc::clone(backend));
            self.next += 1;
            self.due.insert(errand.kind(), at, Duration::ZERO, id);
            let errand = Arc::new(errand);
            self.jobs.insert(
                id,
                Job {
                    errand,
                    backend,
                    server,
                    at,
                    asking: None,
                    is_spread,
                    said: None,
                    is_silent: false,
                    told: (0, now),
                },
            );
            return id;
        };
        (job.backend, job.server) = (Arc::clone(backend), server);
        job.said = None; // what was wanted because of it may be forgotten
        if *job.errand != errand {
            // What the old question finds says nothing any more, and the old rhythm may be slower by far.
            let soon = now + errand.every().mul_f64(self.dice.unit());
            let before = std::mem::replace(&mut job.errand, Arc::new(errand));
            match job.asking.take() {
                Some(asking) => {
                    asking.abort();
                    // Its place is free once it has ended.
                    self.tasks.entry(asking.id()).and_modify(|(_, of)| *of = None);
                }
                None => self.due.remove(before.kind(), job.at, id),
            }
            job.at = job.at.min(soon).max(now);
            self.due.insert(job.errand.kind(), job.at, Duration::ZERO, id);
        } else if !job.errand.is_agents()
            && job.asking.is_none()
            && job.at > now
            && backend.awaits_check(server)
        {
            // It went into maintenance and came back before this was told of it.
            self.due.remove(job.errand.kind(), job.at, id);
            job.at = now;
            self.due.insert(job.errand.kind(), now, Duration::ZERO, id);
        }
        id
    }

    /// Asks those whose time has come, as far as there is room, and with them some whose time is near.
    fn begin_due(&mut self) {
        let (now, mut begun) = (Instant::now(), 0);
        while let Some(id) = self.due.take(now) {
            self.begin(id, now);
            begun += 1;
        }
        while (1..TOGETHER).contains(&begun)
            && let Some(id) = self.due.take_early(now)
        {
            self.begin(id, now);
            begun += 1;
        }
    }

    /// Asks one now.
    fn begin(&mut self, id: u64, now: Instant) {
        // Whoever is removed from the jobs is removed from what is due.
        let job = self.jobs.get_mut(&id).expect("what is due is a job");
        job.at = job.at.max(now); // one that is asked early is not asked more often
        let errand = Arc::clone(&job.errand);
        let kind = errand.kind();
        let task = self.running.spawn(async move {
            let began = Instant::now();
            let result = errand.run().await;
            (result, began.elapsed())
        });
        self.tasks.insert(task.id(), (kind, Some(id)));
        job.asking = Some(task);
    }

    /// One has ended, or was abandoned.
    fn end(&mut self, ended: Result<(tokio::task::Id, Ended), JoinError>) {
        let (task, result) = match ended {
            Ok((task, result)) => (task, Some(result)),
            Err(error) => (error.id(), None),
        };
        let Some((kind, of)) = self.tasks.remove(&task) else { return };
        self.due.ended(kind);
        let Some((id, job)) = of.and_then(|id| Some((id, self.jobs.get_mut(&id)?))) else { return };
        job.asking = None;
        let time = now();
        match result {
            Some((Ok(Found::Pass), took)) => job.backend.probed(job.server, Ok(()), took, time),
            Some((Ok(Found::Word(word)), took)) => {
                job.backend.asked(job.server, Ok(()), took, time);
                job.tell(None);
                // What it says all the time was heard.
                if job.said.as_ref() != Some(&word) {
                    let server = &job.backend.servers[job.server];
                    self.words.say(&job.backend.name, server, word.clone(), Told::Agent);
                    job.said = Some(word);
                }
            }
            Some((Err(Trouble::Server(reason)), took)) if job.errand.is_agents() => {
                job.backend.asked(job.server, Err(&reason), took, time);
                job.tell(Some(&reason));
            }
            Some((Err(Trouble::Server(reason)), took)) => {
                job.backend.probed(job.server, Err(&reason), took, time);
            }
            Some((Err(Trouble::Ours), _)) | None => {}
        }
        let interval = match &*job.errand {
            Errand::Check(question) => job.backend.check_after(job.server, &question.check, time),
            Errand::Agent(_) => job.errand.every(),
        };
        let part = if job.is_spread { 0.8 + 0.4 * self.dice.unit() } else { self.dice.unit() };
        job.is_spread = true;
        job.at = (job.at + interval.mul_f64(part)).max(Instant::now());
        self.due.insert(kind, job.at, interval / EARLY, id);
    }
}

impl Job {
    /// An agent was asked, in vain if there is a reason. Whether it can be is told when that changes; of one that wavers, no more than four times in ten seconds.
    fn tell(&mut self, reason: Option<&str>) {
        if self.is_silent == reason.is_some() {
            return;
        }
        if self.told.1.elapsed() >= LATELY {
            self.told = (0, Instant::now());
        }
        if self.told.0 == TOLD_LATELY {
            return; // what it is then is told by a later question
        }
        self.told.0 += 1;
        self.is_silent = reason.is_some();
        let server = format!("{}/{}", self.backend.name, self.backend.servers[self.server].name);
        match reason {
            Some(reason) => notice(&format!("the agent of server {server} says nothing: {reason}")),
            None => notice(&format!("the agent of server {server} answers")),
        }
    }
}

/// Never ready for nothing.
async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn question(check: &model::Check, (backend, server, address): &Identity) -> Question {
    let address = match (address, check.port) {
        (Address::Socket(address), Some(port)) => Address::Socket((address.ip(), port).into()),
        (Address::Name(name, _), Some(port)) => Address::Name(name.clone(), port),
        (address, _) => address.clone(),
    };
    Question { check: check.clone(), address, backend: backend.clone(), server: server.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One server, checked every hour, as it is in force.
    fn snapshot(state: ServerState, previous: Option<&Snapshot>) -> Snapshot {
        let flags = plimsoll_config::from_flags(&[":8080".to_owned()], &["10.0.0.1:80".to_owned()]);
        let mut config = flags.unwrap().config;
        let check = model::Check::new(model::How::Tcp);
        config.backends[0].check = Some(model::Check { every: Duration::from_secs(3_600), ..check });
        config.backends[0].servers[0].state = state;
        let snapshot = Snapshot::new(config, previous);
        snapshot.backends[0].tick(now());
        snapshot
    }

    #[test]
    fn one_that_was_in_maintenance_is_asked_at_once_even_if_nobody_was_told_of_that() {
        let mut prober = Prober::new();
        let first = snapshot(ServerState::Ready, None);
        first.backends[0].probed(0, Ok(()), Duration::ZERO, now());
        prober.adopt(&first);
        let is_due = |prober: &Prober| prober.due.next().expect("it is checked") <= Instant::now();
        assert!(!is_due(&prober), "it is known already");
        let away = snapshot(ServerState::Maint, Some(&first));
        prober.adopt(&snapshot(ServerState::Ready, Some(&away)));
        assert!(is_due(&prober));
        prober.adopt(&away);
        assert_eq!(prober.due.next(), None, "nobody asks one in maintenance");
    }
}
