//! Sends recorded requests to an OpenTelemetry collector: OTLP over HTTP, in batches, from a thread of its own.
//!
//! Takes the far end of the data plane's queue, so that a slow or dead collector never meets a request: while one batch waits, the queue fills,
//! and what does not fit is dropped there and counted. What cannot be sent within a few tries is dropped here and counted. A configuration that
//! replaces another gets an exporter of its own; the earlier one ends when the last request that it traces has ended. Never reads a
//! configuration, and knows no request that is still going on.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::Duration;

use plimsoll_config::model::Tracing;
use plimsoll_proxy::{RequestSpan, SpanQueue, notice, span_queue};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::collector::{Collector, Failure};
use crate::exported::{EXPORTED, Sending};
use crate::otlp;

/// Requests that travel together, each with its attempts: some hundred KB.
const BATCH: usize = 512;
/// How long a request waits for company.
const EVERY: Duration = Duration::from_secs(1);
/// How often the queue is looked into while a batch gathers: it holds what comes meanwhile, at 40,000 requests a second.
const LOOK: Duration = Duration::from_millis(100);
/// Tries of one batch, and the wait before the second; it doubles each time.
const TRIES: u32 = 4;
const BACKOFF: Duration = Duration::from_secs(1);
/// The operator hears of it once in this time.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// How much longer than its deadline a thread is waited for: it may hang in name resolution.
const MARGIN: Duration = Duration::from_millis(100);

/// Names this process among others of its service: 128 random bits.
static INSTANCE: LazyLock<String> = LazyLock::new(|| {
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
});

/// The exporter of the configuration in force, and earlier ones that have something left to do.
#[derive(Debug, Default)]
pub struct Exporters {
    current: Option<Exporter>,
    earlier: Vec<Exporter>,
}

/// What [`Exporters::adopt`] takes. If it is dropped instead, nothing has changed.
#[derive(Debug)]
pub struct Prepared(Next);

#[derive(Debug)]
enum Next {
    None,
    Same(SpanQueue),
    New(Exporter),
}

/// One thread and what it was started for.
#[derive(Debug)]
struct Exporter {
    settings: Tracing,
    queue: SpanQueue,
    end: watch::Sender<Option<Instant>>,
    sending: Arc<Sending>,
    thread: JoinHandle<()>,
}

impl Prepared {
    /// Where the data plane leaves what it has recorded; `None` without tracing.
    #[must_use]
    pub fn queue(&self) -> Option<SpanQueue> {
        match &self.0 {
            Next::None => None,
            Next::Same(queue) => Some(queue.clone()),
            Next::New(exporter) => Some(exporter.queue.clone()),
        }
    }
}

impl Exporters {
    /// Makes what `tracing` asks for, unless it is there already.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn prepare(&self, tracing: Option<&Tracing>) -> io::Result<Prepared> {
        Ok(Prepared(match (tracing, &self.current) {
            (None, _) => Next::None,
            (Some(wanted), Some(current)) if current.settings == *wanted => Next::Same(current.queue.clone()),
            (Some(wanted), _) => Next::New(Exporter::start(wanted)?),
        }))
    }

    /// It is in force from now on. An exporter that it replaces sends what it still gets.
    pub fn adopt(&mut self, prepared: Prepared) {
        let next = match prepared.0 {
            Next::Same(_) => return,
            Next::None => None,
            Next::New(exporter) => Some(exporter),
        };
        EXPORTED.show(next.as_ref().map(|exporter| Arc::clone(&exporter.sending)));
        self.earlier.retain(|exporter| !exporter.thread.is_finished());
        self.earlier.extend(std::mem::replace(&mut self.current, next).map(Exporter::without_queue));
    }

    /// Sends what there is, and ends within `limit`. To be called when nothing more can come.
    pub fn finish(self, limit: Duration) {
        let until = Instant::now() + limit;
        let all: Vec<Exporter> = self.current.into_iter().chain(self.earlier).collect();
        for exporter in &all {
            exporter.end.send_replace(Some(until));
        }
        for exporter in all {
            while !exporter.thread.is_finished() && Instant::now() < until + MARGIN {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

impl Exporter {
    fn start(settings: &Tracing) -> io::Result<Exporter> {
        let (queue, receiver) = span_queue();
        let (end, ended) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sending = Arc::new(Sending::default());
        let sender = Sender {
            collector: Collector::new(settings),
            service: settings.service.clone(),
            end: ended,
            sending: Arc::clone(&sending),
            told: None,
            is_failing: false,
        };
        let thread = std::thread::Builder::new().name("tracing".to_owned()).spawn(move || {
            runtime.block_on(sender.run(receiver));
            // A name that is still being resolved must not hold anything up.
            runtime.shutdown_background();
        })?;
        Ok(Exporter { settings: settings.clone(), queue, end, sending, thread })
    }

    /// Our own end of the queue is closed; its exporter ends when the last request's is.
    fn without_queue(mut self) -> Exporter {
        self.queue = span_queue().0;
        self
    }
}

/// What the thread owns.
struct Sender {
    collector: Collector,
    service: String,
    /// When to have ended, once that is known.
    end: watch::Receiver<Option<Instant>>,
    /// How it goes, for whoever looks.
    sending: Arc<Sending>,
    /// When the operator was told last.
    told: Option<Instant>,
    is_failing: bool,
}

impl Sender {
    /// Ends when nothing more can come, or at the end that is set.
    async fn run(mut self, mut receiver: mpsc::Receiver<RequestSpan>) {
        let mut batch = Vec::new();
        loop {
            self.gather(&mut receiver, &mut batch).await;
            if batch.is_empty() {
                return;
            }
            let delivered = self.deliver(&batch).await;
            batch.clear();
            if !delivered && self.is_ending() {
                // One failure is enough now: the rest is only counted.
                while let Ok(request) = receiver.try_recv() {
                    EXPORTED.cut.fetch_add(request.spans(), Relaxed);
                }
                return;
            }
        }
    }

    fn is_ending(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Waits for requests, and for more to go with them. None means that there will be none.
    async fn gather(&mut self, receiver: &mut mpsc::Receiver<RequestSpan>, batch: &mut Vec<RequestSpan>) {
        if !self.is_ending() {
            // The loser has taken nothing.
            tokio::select! {
                _ = receiver.recv_many(batch, BATCH) => {}
                _ = ending(&mut self.end) => {}
            }
        }
        let due = Instant::now() + EVERY;
        loop {
            while batch.len() < BATCH
                && let Ok(request) = receiver.try_recv()
            {
                batch.push(request);
            }
            // Who waits for a first one again has nothing: the queue is closed, or is to be left.
            if batch.is_empty() || batch.len() >= BATCH || self.is_ending() || Instant::now() >= due {
                return;
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = ending(&mut self.end) => {}
            }
        }
    }

    /// Sends a batch, again if that may help. False if it was given up.
    async fn deliver(&mut self, batch: &[RequestSpan]) -> bool {
        let spans = batch.iter().map(RequestSpan::spans).sum();
        let message = otlp::message(batch, &self.service, &INSTANCE);
        let mut wait = BACKOFF;
        for tries in 1.. {
            let failure = match in_time(self.collector.post(&message), &mut self.end.clone()).await {
                None => {
                    EXPORTED.cut.fetch_add(spans, Relaxed);
                    return false;
                }
                Some(Ok(answer)) => {
                    self.delivered(spans, &answer);
                    return true;
                }
                Some(Err(failure)) => failure,
            };
            EXPORTED.failed(&self.sending, &failure.reason);
            if !failure.is_passing || tries == TRIES || self.is_ending() {
                EXPORTED.unsent.fetch_add(spans, Relaxed);
                self.tell(&failure, spans);
                return false;
            }
            // Not in step with others who were cut off at the same moment.
            let jitter = RandomState::new().hash_one(tries) % 500;
            tokio::select! {
                () = sleep(failure.after.unwrap_or(wait) + Duration::from_millis(jitter)) => {}
                () = ending(&mut self.end) => {} // one last try
            }
            wait *= 2;
        }
        false
    }

    fn delivered(&mut self, spans: u64, answer: &[u8]) {
        let (rejected, reason) = otlp::rejected(answer);
        let rejected = rejected.min(spans);
        EXPORTED.succeeded(&self.sending, spans - rejected, rejected);
        if rejected > 0 {
            let reason: String = reason.chars().filter(|c| !c.is_control()).take(200).collect();
            self.tell(&Failure::lasting(format!("it rejects spans: {reason}")), rejected);
        } else if std::mem::take(&mut self.is_failing) {
            notice(&format!("tracing: {} takes spans again", self.collector));
        }
    }

    fn tell(&mut self, failure: &Failure, spans: u64) {
        self.is_failing = true;
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        notice(&format!("tracing: {spans} spans dropped: {}: {}", self.collector, failure.reason));
    }
}

/// Ready once an end is set; never if there will be none.
async fn ending(end: &mut watch::Receiver<Option<Instant>>) {
    if end.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What `work` gives, unless the end comes first.
async fn in_time<T>(work: impl Future<Output = T>, end: &mut watch::Receiver<Option<Instant>>) -> Option<T> {
    let over = async {
        ending(end).await;
        let until = *end.borrow();
        sleep_until(until.unwrap_or_else(Instant::now)).await;
    };
    tokio::select! {
        done = work => Some(done),
        () = over => None,
    }
}
