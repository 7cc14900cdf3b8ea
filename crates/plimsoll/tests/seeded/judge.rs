//! What must hold between what clients got and what servers saw, request by request.
//!
//! In go a script, what came of it and the servers' notes; out go violations in words. The rules are those of the design's
//! page on HTTP/1: no foreign answer, no cut one passed off as whole, nothing sent twice that may not be, nothing served
//! behind a last answer, and a good server is never made to look bad.

use super::client::Outcome;
use super::plan::{Answer, Expect, Frame, Planned, Reply, Script, Then, answer_body};
use super::server::{Seen, World};
use super::support::oracle::Response;

/// What happened, in numbers: shows that the seeds reach what they are for.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    exchanges: usize,
    /// Connections that waited for a next exchange at the end.
    pub(crate) pooled: usize,
    answered: usize,
    failed: usize,
    cut: usize,
    aborted: usize,
    unanswered: usize,
    held: usize,
    retried: usize,
    stale: usize,
    surplus: usize,
    interims: usize,
    patient: usize,
    http10: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.exchanges += other.exchanges;
        self.pooled += other.pooled;
        self.answered += other.answered;
        self.failed += other.failed;
        self.cut += other.cut;
        self.aborted += other.aborted;
        self.unanswered += other.unanswered;
        self.held += other.held;
        self.retried += other.retried;
        self.stale += other.stale;
        self.surplus += other.surplus;
        self.interims += other.interims;
        self.patient += other.patient;
        self.http10 += other.http10;
    }

    /// A list of seeds that misses a kind of trouble proves nothing about it.
    pub(crate) fn is_worth_something(&self) {
        assert!(self.exchanges >= 2_000 && self.answered >= 1_500, "{self:#?}");
        let kinds = [
            self.failed,
            self.cut,
            self.aborted,
            self.unanswered,
            self.held,
            self.retried,
            self.stale,
            self.surplus,
            self.pooled,
        ];
        assert!(kinds.iter().all(|&count| count >= 10), "{self:#?}");
        assert!(self.interims >= 10 && self.patient >= 10 && self.http10 >= 10, "{self:#?}");
    }
}

/// Judges all requests of a script.
pub(crate) fn script(script: &Script, outcomes: &[Outcome], world: &World, tally: &mut Tally) {
    for (planned, outcome) in script.requests.iter().zip(outcomes) {
        let seen = world.seen(&planned.name);
        count(planned, outcome, &seen, tally);
        tally.http10 += usize::from(script.http10);
        let mut wrongs = Vec::new();
        wrong_at_servers(planned, &seen, &mut wrongs);
        wrong_at_client(script, planned, outcome, &seen, &mut wrongs);
        for wrong in wrongs {
            world.violation(format!(
                "{}: {wrong}\n  {planned:?}\n  {seen:?}\n  {}",
                planned.name,
                brief(outcome)
            ));
        }
    }
}

fn count(planned: &Planned, outcome: &Outcome, seen: &Seen, tally: &mut Tally) {
    match outcome {
        Outcome::Whole(response) if response.fields.has("x-id") => tally.answered += 1,
        Outcome::Whole(_) => tally.failed += 1,
        Outcome::Cut | Outcome::Closed => tally.cut += 1,
        Outcome::Aborted => tally.aborted += 1,
        Outcome::Unanswered => tally.unanswered += 1,
        Outcome::Malformed(..) | Outcome::Silent(_) => {}
    }
    tally.exchanges += usize::from(seen.turns + seen.stale > 0);
    tally.held += usize::from(planned.holds);
    tally.retried += usize::from(seen.turns + seen.stale > 1);
    tally.stale += seen.stale;
    let answered = (seen.turns > 0).then(|| planned.reply(seen.turns - 1).good()).flatten();
    tally.surplus += usize::from(answered.is_some_and(|a| a.then == Then::Surplus));
    tally.interims += answered.map_or(0, |a| a.interims.len());
    tally.patient += usize::from(planned.expect == Expect::Patient && seen.whole > 0);
}

fn brief(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Whole(response) => {
            let body = response.body[..response.body.len().min(100)].escape_ascii();
            format!(
                "{} with {:?} and {} bytes: {body}",
                response.status,
                response.fields,
                response.body.len()
            )
        }
        other => format!("{other:?}"),
    }
}

/// What no server may see, whatever the client got.
fn wrong_at_servers(planned: &Planned, seen: &Seen, wrongs: &mut Vec<String>) {
    if !planned.is_idempotent() && seen.turns + seen.stale > 1 {
        wrongs.push("was sent twice and may not be".to_owned());
    }
    if seen.whole > seen.turns {
        wrongs.push("arrived more often than it began".to_owned());
    }
    let is_final =
        |reply: &Reply| !matches!(reply, Reply::Drop { .. }) && !may_be_asked_again(planned, reply);
    if planned.replies.iter().position(is_final).is_some_and(|first| seen.turns > first + 1) {
        wrongs.push("was sent again although it had been answered".to_owned());
    }
    // A kept connection that was closed, the same server over a fresh one, and the other server.
    if seen.turns + seen.stale > 4 {
        wrongs.push("was sent more often than there are servers".to_owned());
    }
}

/// Whether another server may be asked after this answer: nothing of it was passed on, and all of the request is still there.
fn may_be_asked_again(planned: &Planned, reply: &Reply) -> bool {
    let (Reply::Whole(answer) | Reply::Early(answer)) = reply else { return false };
    answer.status == 503 && answer.interims.is_empty() && planned.is_idempotent() && planned.size <= 70_000
}

fn wrong_at_client(
    script: &Script,
    planned: &Planned,
    outcome: &Outcome,
    seen: &Seen,
    wrongs: &mut Vec<String>,
) {
    match outcome {
        Outcome::Whole(response) if response.fields.has("x-id") => {
            wrong_answer(script, planned, response, seen, wrongs);
        }
        Outcome::Whole(response) => {
            if !(may_fail(planned, seen) && response.status == 502) {
                wrongs.push(format!("failed with {}, but its servers did nothing wrong", response.status));
            }
        }
        Outcome::Cut | Outcome::Closed => {
            if seen.turns == 0 || !planned.reply(seen.turns - 1).is_cut() {
                wrongs.push("was cut by nobody but the program".to_owned());
            }
        }
        Outcome::Malformed(class, text) => {
            wrongs.push(format!("got an answer that is none ({class}): {text}"));
        }
        Outcome::Silent(text) => wrongs.push(format!("got no answer in time, only {text:?}")),
        Outcome::Unanswered => {
            if seen.turns + seen.stale > 0 {
                wrongs.push("was served behind the last answer of its connection".to_owned());
            }
        }
        Outcome::Aborted => {}
    }
}

/// Whether a 502 is the truth: its server dropped or cut it, or had given up the connection that a `POST` went over.
fn may_fail(planned: &Planned, seen: &Seen) -> bool {
    let last = seen.turns.checked_sub(1).map(|turn| planned.reply(turn));
    // After a server has answered, if only with 100, it is not asked again; nor is what does not fit the replay buffer.
    let again = planned.is_idempotent() && planned.expect == Expect::No && planned.size <= 60_000;
    match last {
        Some(reply) if reply.is_cut() => true,
        // What may be sent again has to be.
        Some(Reply::Drop { .. }) => !again,
        Some(_) => false,
        None => !again && seen.stale > 0,
    }
}

fn wrong_answer(
    script: &Script,
    planned: &Planned,
    response: &Response,
    seen: &Seen,
    wrongs: &mut Vec<String>,
) {
    if response.fields.all("x-id") != [planned.name.as_bytes()] {
        wrongs.push("got another request's answer".to_owned());
        return;
    }
    let turns = response.fields.all("x-turn");
    let turn = turns.first().and_then(|text| std::str::from_utf8(text).ok()?.parse::<usize>().ok());
    let Some((turn, answer)) = turn.and_then(|turn| Some((turn, planned.reply(turn).good()?))) else {
        wrongs.push("got an answer as whole that its server had cut".to_owned());
        return;
    };
    if turn + 1 != seen.turns {
        wrongs.push(format!("got the answer of turn {turn}"));
    }
    let is_plain = planned.expect == Expect::No && planned.size <= 60_000;
    if turn == 0 && is_plain && may_be_asked_again(planned, planned.reply(0)) {
        wrongs.push("was given a 503 although there was another server".to_owned());
    }
    if response.status != answer.status || response.body != meant_body(planned, turn, answer) {
        wrongs.push("got an answer that is not what its server sent".to_owned());
    }
    let early = matches!(planned.reply(turn), Reply::Early(_));
    if !early && seen.whole == 0 {
        wrongs.push("was answered, but never arrived".to_owned());
    }
    if planned.holds && response.keep_alive {
        wrongs.push("was half sent when it was answered, but the connection stays".to_owned());
    }
    let expected: Vec<u16> = if script.http10 { Vec::new() } else { answer.interims.clone() };
    let got: Vec<u16> =
        response.interims.iter().map(|(status, _)| *status).filter(|status| *status != 100).collect();
    let foreign = |(status, fields): &(u16, super::support::oracle::Fields)| {
        *status != 100 && fields.all("x-id") != [planned.name.as_bytes()]
    };
    if got != expected || response.interims.iter().any(foreign) {
        wrongs.push(format!("got interim answers {got:?}, meant were {expected:?}"));
    }
}

fn meant_body(planned: &Planned, turn: usize, answer: &Answer) -> Vec<u8> {
    if planned.method == "HEAD" || answer.frame == Frame::Empty {
        Vec::new()
    } else {
        answer_body(&planned.name, turn, answer)
    }
}
