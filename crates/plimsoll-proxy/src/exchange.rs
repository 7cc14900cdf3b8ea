//! One request, from its head to its log line: the file to read first.
//!
//! All branching of the path lives here: which server, once more or not, what the client is told, what becomes of both
//! connections. `plan` has judged and routed the request; `attempt` tries one server and decides nothing; `tries` goes on to another and `race` asks two at once; `response` passes an answer
//! on; `pump` moves bytes. Whatever ends an exchange (also a cancel or a panic), its record is logged and its server's slot
//! given back, because both are guards.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use plimsoll_config::model::Action;
use plimsoll_http::Head;
use plimsoll_traffic::pressure::Level;
use plimsoll_traffic::{Again, Ask, Lease, NoServer, Outcome, Pace, Verdict, again};

use crate::access_log::Record;
use crate::attempt::{self, Answer, Failed};
use crate::buffer::Buffer;
use crate::downstream::{After, Downstream};
use crate::error::{Error, Phase, What, Who};
use crate::forward::ForUs;
use crate::load_report;
use crate::plan::{Asked, Plan, plan};
use crate::probe;
use crate::pump::Pump;
use crate::race;
use crate::reply::{self, Form, Reply, Sending};
use crate::response;
use crate::snapshot::{Route, View};
use crate::tries::Kept;
use crate::waiting;
use crate::worker::Worker;

/// One exchange on its way.
pub(crate) struct Exchange<'a> {
    pub(crate) down: &'a mut Downstream,
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) view: Rc<View>,
    pub(crate) record: Record,
    pub(crate) asked: Asked,
    /// When the route's total time is up, in milliseconds.
    pub(crate) total_due: u64,
}

/// Runs one exchange; `head` is whole and its bytes stand at the front of the client's buffer.
pub(crate) async fn run(down: &mut Downstream, worker: &Rc<Worker>, head: Box<Head>) -> After {
    let view = worker.view_of(down.listener);
    let mut record = Record::begin(worker, &view, &down.open, down.client.address);
    record.received = head.len() as u64;
    let (asked, planned) = plan(down, worker, &view, &head, &mut record);
    down.buffer.consume(head.len());
    worker.buffers.park(&mut down.buffer);
    worker.give_head(head);
    let mut exchange = Exchange { down, worker, view: Rc::clone(&view), record, asked, total_due: u64::MAX };
    // What is rare is boxed: every idle connection has room for the longest way an exchange can take.
    match planned {
        Plan::Refuse { error, whole, form } => Box::pin(exchange.tell(&error, whole, form)).await,
        Plan::Answer { route, location, body_follows } => {
            Box::pin(exchange.answer(&view.shared.routes[route], location, body_follows)).await
        }
        Plan::Proxy { route, backend, up } => exchange.proxy(&view.shared.routes[route], backend, up).await,
    }
}

impl Exchange<'_> {
    /// Tries servers until one answers or there is no use in going on; then passes the answer on.
    async fn proxy(&mut self, route: &Route, backend: usize, mut up: Box<Pump>) -> After {
        self.record.phase = Phase::Connect;
        self.record.backend = Some(backend);
        self.total_due = self.due_after(route.total);
        if let Err(cut) = up.begin() {
            let error = attempt::upload_error(cut);
            return Box::pin(self.give_up(&error, up)).await;
        }
        self.view.backends[backend].savings.save(route.retry.budget);
        let mut tried: Vec<u32> = Vec::new(); // allocates only when the first server failed
        let mut kept: Option<Box<Kept>> = None;
        loop {
            let found = match self.pick_in_turn(backend, &tried) {
                // Whoever has an answer in hand holds a slot, which others may be waiting for.
                Err(NoServer::Full)
                    if self.queues(backend) && !matches!(kept.as_deref(), Some(Kept::Answer(..))) =>
                {
                    Box::pin(waiting::wait(self, backend, &tried, &mut up)).await
                }
                Err(none) => match (none, kept.take().map(|kept| *kept)) {
                    (_, Some(Kept::Answer(lease, answer))) => {
                        return response::pass_on(self, route, backend, lease, answer, up).await;
                    }
                    (NoServer::Tried, Some(Kept::Failure(error))) => Err(error),
                    (NoServer::Full, _) => Err(Error::new(Who::Us, Phase::Connect, What::ServersFull)),
                    _ => Err(Error::new(Who::Us, Phase::Connect, What::NoServer)),
                },
                Ok(lease) => Ok(lease),
            };
            let lease = match found {
                Ok(lease) => lease,
                Err(error) => return Box::pin(self.give_up(&error, up)).await,
            };
            if let Some(kept) = kept.take() {
                self.let_go(backend, *kept);
                up.restart();
            }
            self.record.server = Some(lease.index());
            if lease.reports() {
                probe::send_due(self.worker, &self.view, backend);
            }
            let (lease, result) = if tried.is_empty() && self.asked.hedgeable && route.hedge.is_some() {
                Box::pin(race::run(self, (route, backend), lease, &mut tried, &mut up)).await
            } else {
                let result = self.try_server(route, backend, &lease, &mut up, tried.len()).await;
                (lease, result)
            };
            self.tell_policy(&lease, &result);
            if let Some(pace) = &route.pace {
                self.pace(pace, &result);
            }
            if let Some(pause) = self.goes_on((route, backend), (&lease, &tried), &up, &result) {
                tried.push(lease.index());
                kept = Some(self.keep(lease, result));
                if let Err(left) = Box::pin(self.pause(pause)).await {
                    return Box::pin(self.give_up(&left, up)).await;
                }
                continue;
            }
            return match result {
                Ok(answer) => response::pass_on(self, route, backend, lease, answer, up).await,
                Err(failed) => Box::pin(self.give_up(&failed.error, up)).await,
            };
        }
    }

    /// Tells a policy that learns how the server dealt with the request.
    pub(crate) fn tell_policy(&self, lease: &Lease, result: &Result<Answer, Failed>) {
        if lease.hears() {
            self.hear(lease, result);
        }
        self.tell_health(lease, result);
        if !lease.learns() {
            return;
        }
        let verdict = match result {
            Ok(answer) if answer.head.status() >= 500 => Verdict::Failed,
            Ok(_) => Verdict::Answered,
            Err(failed) if failed.error.who == Who::Server => Verdict::Failed,
            Err(_) => Verdict::Cancelled,
        };
        self.worker.deadlines.precise();
        lease.observe(&Outcome::new(self.worker.deadlines.micros(), verdict));
    }

    /// Whether the server did what a server is there for. An application's own failures (500) say nothing about that.
    fn tell_health(&self, lease: &Lease, result: &Result<Answer, Failed>) {
        let now = || self.worker.deadlines.micros();
        match result {
            Ok(answer) => match answer.head.status() {
                status @ 502..=504 => lease.failed(&format!("status {status}"), now()),
                _ => lease.succeeded(now()),
            },
            Err(Failed { error, .. }) if error.who != Who::Server => {}
            Err(Failed { error, .. }) => {
                self.worker.deadlines.precise();
                match &error.what {
                    // What breaks or is refused at one moment is one failure, however many requests meet it.
                    What::Io(_) | What::Closed => lease.broke(error.reason(), now()),
                    _ => lease.failed(error.reason(), now()),
                }
            }
        }
    }

    /// Notes how long an answer took.
    fn pace(&self, pace: &Pace, result: &Result<Answer, Failed>) {
        if let (Ok(_), Some(took)) = (result, self.record.first_byte) {
            pace.observe(took.as_micros() as u64, self.worker.deadlines.now());
        }
    }

    /// Passes on what the server says of itself with its answer.
    #[inline(never)]
    fn hear(&self, lease: &Lease, result: &Result<Answer, Failed>) {
        let (Ok(answer), Some(backend)) = (result, self.record.backend) else { return };
        let bytes = answer.buffer.filled();
        if lease.reports()
            && let Some(report) = load_report::read(&answer.head, bytes)
        {
            self.worker.deadlines.precise();
            lease.hear(&report, self.worker.deadlines.micros());
        }
        let backend = self.view.backends[backend].balancer.backend();
        if let Some(name) = &backend.word_field
            && let Some(word) = answer.head.value(bytes, name)
        {
            self.view.shared.words.hear(&backend.name, lease, word);
        }
    }

    /// What servers of the backend say to us alone.
    pub(crate) fn for_us(&self) -> ForUs<'_> {
        let Some(backend) = self.record.backend else { return ForUs::default() };
        let balancer = &self.view.backends[backend].balancer;
        if !balancer.hears() {
            return ForUs::default();
        }
        ForUs { reports: balancer.reports(), word: balancer.backend().word_field.as_deref() }
    }

    /// One server; a pooled connection that turns out to be dead is replaced by a fresh one, once.
    pub(crate) async fn try_server(
        &mut self,
        route: &Route,
        backend: usize,
        lease: &Lease,
        up: &mut Pump,
        tried: usize,
    ) -> Result<Answer, Failed> {
        let mut fresh = false;
        loop {
            self.record.attempt_begins(lease.server(), &mut up.head);
            let failed = match attempt::run(self, route, backend, lease, up, fresh).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            self.record.attempt_ended(&failed.error);
            match again(failed.failure, &self.chance(route, up, tried, fresh)) {
                Again::SameServerFresh => {
                    fresh = true;
                    up.restart();
                }
                Again::OtherServer | Again::No => {
                    self.record.attempt_failed(&failed.error);
                    return Err(failed);
                }
            }
        }
    }

    fn queues(&self, backend: usize) -> bool {
        self.view.backends[backend].balancer.queues()
    }

    /// Picks a server unless others wait for one: those come first.
    fn pick_in_turn(&self, backend: usize, tried: &[u32]) -> Result<Lease, NoServer> {
        if !self.view.backends[backend].balancer.is_open(self.asked.session) {
            return Err(NoServer::Full);
        }
        self.pick(backend, tried)
    }

    /// Picks a server: for who has just come and nobody waits, or whose turn it is.
    pub(crate) fn pick(&self, backend: usize, tried: &[u32]) -> Result<Lease, NoServer> {
        let ask = Ask { now: self.worker.deadlines.micros(), key: self.asked.key, tried };
        let balancer = &self.view.backends[backend].balancer;
        if let Some(session) = self.asked.session
            && let Some(lease) = balancer.keep(session, &ask)
        {
            return Ok(lease);
        }
        balancer.pick(&ask, &mut self.worker.dice.borrow_mut())
    }

    /// `after` from now, in milliseconds; never for none.
    fn due_after(&self, after: Option<Duration>) -> u64 {
        after.map_or(u64::MAX, |after| self.worker.deadlines.now().0.saturating_add(after.as_millis() as u64))
    }

    /// Arms the connection's deadline, the route's total included.
    pub(crate) fn arm(&self, after: Duration) {
        self.down.timer.arm_at(self.due_after(Some(after)).min(self.total_due));
    }

    /// The deadline that passed, as an error: the route's total, or the one that was waited for.
    pub(crate) fn timed_out(&self, who: Who, phase: Phase) -> Error {
        let total = self.total_due <= self.worker.deadlines.now().0;
        Error::new(if total { Who::Us } else { who }, phase, What::TimedOut)
    }

    /// True if this must be the last answer on its connection, whatever the client wishes.
    pub(crate) fn is_last(&self) -> bool {
        let limits = &self.view.shared.config.limits;
        let age = self.worker.deadlines.now().0.saturating_sub(self.down.born.0);
        self.worker.is_ending()
            || !self.worker.has_listener(self.down.listener)
            || self.view.shared.stats.pressure().level() > Level::Calm
            || self.down.requests >= limits.requests_per_connection
            || u128::from(age) >= limits.connection_age.as_millis()
    }

    /// No server will answer: tells the client, as far as it is still there.
    async fn give_up(&mut self, error: &Error, mut up: Box<Pump>) -> After {
        self.record.received += up.read;
        self.record.received -= up.surplus.len() as u64;
        up.release(&self.worker.buffers);
        let form = Form::in_head(&up.head);
        self.worker.give_text(std::mem::take(&mut up.head));
        if error.who == Who::Client && matches!(error.what, What::Io(_) | What::Closed) {
            self.record.failed(error);
            return After::Close;
        }
        let whole = up.is_whole() && error.who != Who::Client;
        if whole && !up.surplus.is_empty() {
            self.down.buffer = Buffer::holding(&up.surplus);
        }
        self.tell(error, whole, form).await
    }

    /// Sends an answer about `error`; the connection may go on if the request has been read to its end.
    pub(crate) async fn tell(&mut self, error: &Error, whole: bool, form: Form) -> After {
        self.record.failed(error);
        let mut out = self.worker.take_text();
        let date = self.date();
        let close = !(whole && self.asked.keep_alive) || self.is_last();
        reply::write_error(&mut out, error, form, self.sending(&date, close));
        self.record.status = error.status();
        self.send(out, close).await
    }

    /// Answers as the route says, without any server.
    async fn answer(&mut self, route: &Route, location: Option<Vec<u8>>, body_follows: bool) -> After {
        self.record.answered_here();
        let mut out = self.worker.take_text();
        let date = self.date();
        let close = body_follows || !self.asked.keep_alive || self.is_last();
        let (status, content_type, body) = match &route.action {
            Action::Respond { status, body, content_type } => {
                (*status, content_type.as_str(), body.as_bytes())
            }
            Action::Redirect { status, .. } => (*status, "text/plain; charset=utf-8", &b""[..]),
            Action::Proxy(_) => (500, "text/plain; charset=utf-8", &b""[..]), // `plan` sends those to `proxy`
        };
        let reply = Reply { status, content_type, location: location.as_deref(), proxy_status: None, body };
        reply.write(&mut out, self.sending(&date, close));
        self.record.status = status;
        self.send(out, close).await
    }

    fn date(&self) -> String {
        self.worker.wall.texts(SystemTime::now()).http.clone()
    }

    fn sending<'d>(&'d self, date: &'d str, close: bool) -> Sending<'d> {
        Sending {
            date,
            close,
            keep_alive_named: self.asked.http10,
            to_head: self.asked.to_head,
            request_id: self.record.id_field(),
            fields: &self.asked.fields,
        }
    }

    async fn send(&mut self, out: Vec<u8>, close: bool) -> After {
        let len = out.len() as u64;
        let written = self.down.write_all(&out, self.view.shared.config.timeouts.idle).await;
        self.worker.give_text(out);
        match written {
            Ok(()) => {
                self.record.sent += len;
                if close { After::Linger } else { After::KeepAlive }
            }
            Err(error) => {
                self.record.status = 0;
                self.record.failed_too(&error);
                After::Close
            }
        }
    }
}
