//! Reloading: the file is read at once, its names are resolved beside everything else, sources of servers that are new give their first
//! answer, and then all of it is taken or nothing.
//!
//! While a name server is silent, signals and questions are acted on as ever. Whoever asks again has the file read again, and what was
//! under way is abandoned; everybody who has asked is told of the last outcome.

use std::sync::Arc;
use std::time::Instant;

use plimsoll_config::defaults::FIRST_ANSWER;
use plimsoll_config::model::Config;
use plimsoll_control::files;
use plimsoll_control::reload::{Outcome, Watch};
use plimsoll_control::resolve::Resolution;
use plimsoll_control::secrets::read_sticky_secret;
use plimsoll_control::systemd;
use plimsoll_proxy::{Snapshot, notice};
use tokio::sync::oneshot;

use super::discovering::Listed;
use super::{Failed, Running, begin_to_resolve, tell_ended, unresolved};
use crate::configuration;
use crate::terminal;

/// A configuration that is not complete yet.
pub(super) struct Reloading {
    stage: Stage,
    /// Who waits for the outcome.
    answers: Vec<oneshot::Sender<Outcome>>,
}

/// What a reload waits for.
enum Stage {
    Names(Resolution),
    /// The first answers, until then.
    Lists(Box<Listed>, Instant),
}

/// What has come.
pub(super) enum Step {
    Names(Result<Box<Config>, String>),
    Lists,
}

impl Reloading {
    /// Waits for what comes next. Never ready for none. May be dropped and asked again.
    pub(super) async fn step(reloading: Option<&mut Reloading>) -> Step {
        let Some(reloading) = reloading else { return std::future::pending().await };
        match &mut reloading.stage {
            Stage::Names(resolution) => {
                let config = resolution.outcome().await;
                Step::Names(config.map(Box::new).map_err(|all| line(&unresolved(&all))))
            }
            Stage::Lists(listed, until) => {
                listed.sources.listed(until.saturating_duration_since(Instant::now())).await;
                Step::Lists
            }
        }
    }
}

fn line(failed: &Failed) -> String {
    format!("{failed}\n")
}

impl Running {
    /// Reads the configuration again and begins to resolve its names; `answer` is told what came of it.
    pub(super) fn begin_reload(&mut self, answer: Option<oneshot::Sender<Outcome>>) {
        systemd::reloading();
        let mut answers = self.reloading.take().map_or_else(Vec::new, |earlier| earlier.answers);
        answers.extend(answer);
        match self.read_configuration() {
            Ok(resolution) => self.reloading = Some(Reloading { stage: Stage::Names(resolution), answers }),
            Err(problems) => self.tell(&Err(problems), answers),
        }
    }

    fn read_configuration(&mut self) -> Result<Resolution, String> {
        let Some(file) = &mut self.file else {
            return Err("started without a file: there is nothing to reload\n".to_owned());
        };
        // What is tried now is not tried again by the watch, and a later change is another reload's.
        *file = Watch::new(file.path());
        let mut config = files::load_file(file.path()).map_err(|error| error.render(false))?.config;
        read_sticky_secret(&mut config).map_err(|reason| line(&Failed::Secret(reason)))?;
        begin_to_resolve(config).map_err(|failed| line(&failed))
    }

    /// Asks the sources of a configuration whose names have been resolved, or takes one that is complete.
    pub(super) fn go_on_reloading(&mut self, step: Step) {
        let Some(mut reloading) = self.reloading.take() else { return };
        let outcome = match (step, reloading.stage) {
            (Step::Names(Ok(config)), _) => {
                let until = Instant::now() + FIRST_ANSWER;
                reloading.stage = Stage::Lists(Box::new(self.listed.next(*config)), until);
                self.reloading = Some(reloading);
                return;
            }
            (Step::Names(Err(problems)), _) => Err(problems),
            (Step::Lists, Stage::Lists(listed, _)) => self.take_configuration(*listed),
            (Step::Lists, Stage::Names(_)) => return, // it was begun anew; nobody asks so
        };
        self.tell(&outcome, reloading.answers);
    }

    /// With any problem everything stays as it was; either way the operator is told.
    fn tell(&mut self, outcome: &Outcome, answers: Vec<oneshot::Sender<Outcome>>) {
        systemd::ready(outcome.as_deref().unwrap_or("serving; the last reload failed, see the journal"));
        self.published.reloaded(outcome.is_ok());
        match outcome {
            Ok(done) => notice(done),
            Err(problems) => {
                terminal::err(problems);
                notice("not reloaded: the configuration in force stays");
            }
        }
        for answer in answers {
            let _ = answer.send(outcome.clone()); // who asked may have gone away
        }
    }

    fn take_configuration(&mut self, mut listed: Listed) -> Outcome {
        let before = Arc::clone(self.proxy.snapshot());
        let mut wanted = self.wanted.clone();
        let (base, staying) = self.based(&listed);
        listed.staying = staying;
        let ended = wanted.reload(listed.filed.clone(), base);
        let config = wanted.compose();
        let prepared =
            self.exporters.prepare(config.tracing.as_ref()).map_err(|error| line(&Failed::Tracing(error)))?;
        let snapshot = Arc::new(Snapshot::new(config, Some(&before)).traced(prepared.queue()));
        self.checks.prepare(&snapshot.config).map_err(|error| line(&Failed::Checks(error)))?;
        // The new admin addresses first: if one is taken, nothing else changes either.
        let admin = self.prepare_admin(&snapshot.config).map_err(|failed| line(&failed))?;
        self.proxy.publish(&snapshot).map_err(|error| line(&Failed::Start(error)))?;
        self.exporters.adopt(prepared);
        self.checks.adopt(&snapshot);
        self.published.show_origins(listed.sources.origins());
        self.listed = listed;
        self.wanted = wanted;
        self.published.show(Arc::clone(&snapshot), &self.wanted);
        tell_ended(ended);
        self.replace_admin(&snapshot.config, admin);
        let mut done = configuration::summary(&snapshot.config);
        if snapshot.config.workers.is_some_and(|n| n.get() != self.proxy.workers()) {
            done.push_str("; a change of workers takes a restart");
        }
        let path = self.file.as_ref().map_or_else(String::new, |file| file.path().display().to_string());
        Ok(format!("reloaded {path}: {done}"))
    }
}
