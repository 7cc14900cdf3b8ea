//! A request at two servers: the second is asked when the first has not answered in time, and the first good answer wins.
//!
//! Both run in the exchange's task. The first is an ordinary try; the second has a connection, a timer and a lease of its own and never touches the
//! client, so the loser can be dropped at any point: its connection is closed, its slot given back, and its policy hears that it was
//! cancelled. An interim answer that the client was sent settles for the first, since the client cannot be given half of one. Whether there may be a
//! second is decided by `plimsoll-traffic`.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use plimsoll_traffic::{Ask, Failure, Lease, NoHedge, hedge_delay};

use crate::attempt::{Answer, Failed};
use crate::error::Who;
use crate::exchange::Exchange;
use crate::pump::Pump;
use crate::second::{self, Question};
use crate::snapshot::{Route, View};
use crate::worker::Worker;

/// What an attempt came to.
pub(crate) type Tried = Result<Answer, Failed>;

/// What asking a second server came to; `None` without leave.
type Asked = Option<(Lease, Tried)>;

/// What the second needs to begin, and what it tells while it runs.
struct Hedge<'r> {
    worker: Rc<Worker>,
    view: Rc<View>,
    route: &'r Route,
    backend: usize,
    key: u64,
    first: u32,
    delay: Duration,
    question: Question,
    denied: Cell<Option<NoHedge>>,
    begun: Cell<Option<Begun>>,
}

/// A second server has been asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub(crate) server: u32,
    /// In microseconds.
    pub(crate) at: u64,
}

/// Tries `lease`'s server, and another one beside it if that takes long. Gives the server whose answer or failure counts; all others that were tried
/// are added to `tried`.
pub(crate) async fn run(
    exchange: &mut Exchange<'_>,
    (route, backend): (&Route, usize),
    lease: Lease,
    tried: &mut Vec<u32>,
    up: &mut Pump,
) -> (Lease, Tried) {
    let Some(hedge) = Hedge::new(exchange, (route, backend), &lease, up) else {
        let result = exchange.try_server(route, backend, &lease, up, 0).await;
        return (lease, result);
    };
    let ended = both(exchange, &hedge, &lease, up).await;
    hedge.end(exchange, lease, tried, ended)
}

/// Lets both run until something is settled. `None` for one that had not ended then, or never began.
async fn both(
    exchange: &mut Exchange<'_>,
    hedge: &Hedge<'_>,
    lease: &Lease,
    up: &mut Pump,
) -> (Option<Tried>, Asked) {
    let route = hedge.route;
    let mut second = pin!(Some(hedge.ask()));
    let (mut one, mut two) = {
        let mut first = pin!(exchange.try_server(route, hedge.backend, lease, up, 0));
        let mut ended = (None, None);
        poll_fn(|cx| hedge.poll(cx, first.as_mut(), second.as_mut(), &mut ended)).await;
        ended
    };
    if two.is_none() && one.as_ref().is_some_and(|one| !settles(one, route)) && second.is_some() {
        // The first has failed: all hope is in the second, as long as the client waits.
        let waited = poll_fn(|cx| match second.as_mut().as_pin_mut().map(|second| second.poll(cx)) {
            Some(Poll::Ready(ended)) => Poll::Ready(Ok(ended)),
            _ => exchange.poll_left(cx).map(Err),
        });
        match waited.await {
            Ok(ended) => two = Some(ended),
            Err(error) => one = Some(Err(Failed { failure: Failure::Other, error })),
        }
    }
    (one, two.flatten()) // the other one, if it is still on its way, is cancelled here
}

/// Nothing better is to be waited for.
fn settles(result: &Tried, route: &Route) -> bool {
    match result {
        Ok(answer) => !route.retry.on.has(answer.head.status()),
        Err(failed) => failed.error.who != Who::Server,
    }
}

impl<'r> Hedge<'r> {
    /// `None` if nobody knows yet what is slow.
    fn new(
        exchange: &mut Exchange<'_>,
        (route, backend): (&'r Route, usize),
        lease: &Lease,
        up: &Pump,
    ) -> Option<Hedge<'r>> {
        let (wish, pace) = (route.hedge?, route.pace.as_ref()?);
        let worker = exchange.worker;
        let delay = hedge_delay(wish, pace, worker.deadlines.now())?;
        let mut head = worker.take_text();
        head.extend_from_slice(&up.head);
        let span = exchange.record.second_begins(&mut head);
        Some(Hedge {
            worker: Rc::clone(worker),
            view: Rc::clone(&exchange.view),
            route,
            backend,
            key: exchange.asked.key,
            first: lease.index(),
            delay: Duration::from_micros(delay),
            question: Question { head, to_head: exchange.asked.to_head, due: exchange.total_due, span },
            denied: Cell::new(None),
            begun: Cell::new(None),
        })
    }

    /// Waits, asks for leave, and asks a second server; `None` without leave.
    async fn ask(&self) -> Asked {
        tokio::time::sleep(self.delay).await;
        let lease = match self.begin() {
            Ok(lease) => lease,
            Err(why) => {
                self.denied.set(Some(why));
                return None;
            }
        };
        let result =
            second::ask(&self.worker, &self.view, (self.route, self.backend), &lease, &self.question);
        let result = result.await;
        Some((lease, result))
    }

    fn begin(&self) -> Result<Lease, NoHedge> {
        let (deadlines, upstream) = (&self.worker.deadlines, &self.view.backends[self.backend]);
        deadlines.precise();
        let (now, known) = (deadlines.now(), upstream.balancer.backend());
        upstream.savings.hand_over(&known.budget, now);
        known.may_hedge(now)?;
        if !upstream.balancer.is_open(None) {
            return Err(NoHedge::Load); // others wait for a slot
        }
        let ask = Ask { now: deadlines.micros(), key: self.key, tried: &[self.first] };
        let lease = upstream.balancer.pick(&ask, &mut self.worker.dice.borrow_mut());
        let lease = lease.map_err(|_| NoHedge::Server)?;
        if !known.budget.withdraw(now) {
            return Err(NoHedge::Budget);
        }
        self.begun.set(Some(Begun { server: lease.index(), at: deadlines.micros().0 }));
        Ok(lease)
    }

    /// Ready when there is something that settles it, or the first has ended and nothing else is to be waited for here.
    fn poll<First, Second>(
        &self,
        cx: &mut Context<'_>,
        first: Pin<&mut First>,
        mut second: Pin<&mut Option<Second>>,
        (one, two): &mut (Option<Tried>, Option<Asked>),
    ) -> Poll<()>
    where
        First: Future<Output = Tried>,
        Second: Future<Output = Asked>,
    {
        let interims = self.worker.interims.get();
        if let Poll::Ready(result) = first.poll(cx) {
            *one = Some(result);
            // What follows a failure is another try, unless there is one already.
            if self.begun.get().is_none() {
                second.set(None);
            }
            return Poll::Ready(());
        }
        if self.worker.interims.get() != interims {
            second.set(None);
        }
        if let Some(running) = second.as_mut().as_pin_mut()
            && let Poll::Ready(ended) = running.poll(cx)
        {
            second.set(None);
            let has_won = matches!(&ended, Some((_, result)) if settles(result, self.route));
            *two = Some(ended);
            return if has_won { Poll::Ready(()) } else { Poll::Pending };
        }
        Poll::Pending
    }

    /// Says who has won, and tells everybody else.
    fn end(
        self,
        exchange: &mut Exchange<'_>,
        lease: Lease,
        tried: &mut Vec<u32>,
        (one, two): (Option<Tried>, Asked),
    ) -> (Lease, Tried) {
        let Hedge { worker, route, backend, question, denied, begun, .. } = self;
        worker.give_text(question.head);
        if let Some(why) = denied.get() {
            exchange.record.hedge_denied(backend, why);
        }
        let Some(begun) = begun.get() else {
            return (lease, one.unwrap_or_else(|| Err(Failed::cancelled())));
        };
        let cancelled = || Err(Failed::cancelled());
        let one = one.unwrap_or_else(cancelled);
        let (second, two) = two.map_or((None, cancelled()), |(lease, two)| (Some(lease), two));
        let wins = two.is_ok() && (one.is_err() || !settles_ok(&one, route) && settles_ok(&two, route));
        exchange.record.hedged((backend, begun), question.span, &two, wins);
        match second {
            Some(second) if wins => {
                tried.push(lease.index());
                exchange.tell_policy(&lease, &one);
                exchange.record.server = Some(second.index());
                exchange.record.first_byte = Some(exchange.record.elapsed());
                (second, two)
            }
            second => {
                if let Some(second) = &second {
                    tried.push(second.index());
                    exchange.tell_policy(second, &two);
                }
                (lease, one)
            }
        }
    }
}

fn settles_ok(result: &Tried, route: &Route) -> bool {
    result.is_ok() && settles(result, route)
}
