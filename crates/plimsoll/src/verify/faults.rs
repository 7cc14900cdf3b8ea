//! Checks from outside of what a balancer does about servers in trouble: busy, slow, failing, dying, back again.
//!
//! Who received how much of a crowd is asked of the origins, since a balancer may try another server after a failure, which the answers
//! don't show. A balancer must not keep a server out of trouble by refusing its clients: what they lose is looked at as well.

use std::time::{Duration, Instant};

use plimsoll_sim::contracts::{Kind, Reading, Unit, share_bound};
use serde_json::json;

use super::figures::lost;
use super::stage::{Asked, REVIVAL, Reply, Stage};

/// After so long a request is taken to wait at the busy server, and the next is asked.
const LATE: Duration = Duration::from_millis(100);
/// The same for the one that is to make it busy: an answer that is merely late would cost the whole attempt.
const VERY_LATE: Duration = Duration::from_millis(500);
/// How long a busy server takes. All requests of the check are asked meanwhile.
const BUSY: Duration = Duration::from_secs(4);
/// How long the busy server is looked for.
const FINDING: Duration = Duration::from_secs(10);
/// How many look for an idle server while one is busy.
const SEEKERS: u64 = 24;
/// The most that a check's crowd may take.
const LIMIT: Duration = Duration::from_secs(8);

const BUSY_SAYS: &str = "while one server is busy and others idle, none of 24 requests goes to it";
const PAIR_SAYS: &str = "the same with two servers left, whichever of them is busy";
const SLOW: &str = "one server that is twenty times slower gets at most half of its share";
const FAILING: &str = "one server that fails at once gets no more of all requests";
const DYING: &str = "a server that dies costs no client an answer";
const REVIVED: &str = "a server that is back is used again within so many seconds";

const BLIND: Reading = Reading::Unpromised("does not look at load");
const IDLE_FAILURES: Reading = Reading::Unpromised("a server that fails at once is always the least busy");
const ORDERED_FAILURES: Reading = Reading::Unpromised("idle, the first server takes everything");
const BOUND_FAILURES: Reading =
    Reading::Unpromised("what is above the bound elsewhere goes to whoever is idle");

pub(super) async fn all(stage: &mut Stage) -> Result<(), String> {
    if stage.wants(&["busy"]) {
        busy(stage, "busy", BUSY_SAYS, &[0]).await?;
    }
    if stage.wants(&["slow"]) {
        slow(stage).await?;
    }
    if stage.wants(&["failing"]) {
        failing(stage).await?;
    }
    if stage.wants(&["dying", "revived"]) {
        dying(stage).await?;
    }
    if stage.wants(&["busy-pair"]) {
        busy(stage, "busy-pair", PAIR_SAYS, &[0, 1]).await?;
    }
    stage.origins.calm().await
}

fn looks_at_load(kind: Kind) -> bool {
    matches!(kind, Kind::Best | Kind::BestOf(_))
}

/// Each of these origins gets slow until one request waits there, then idle servers are looked for.
async fn busy(
    stage: &mut Stage,
    contract: &'static str,
    says: &'static str,
    slow: &[usize],
) -> Result<(), String> {
    if !looks_at_load(stage.kind()) {
        stage.found(contract, says, BLIND);
        return Ok(());
    }
    let mut figure = 0.0;
    for &slow in slow {
        if contract == "busy-pair" {
            // Anew for each: who was out long enough is tried again, and a draw of the busy one and a dead one proves nothing.
            stage.take_down(&(2..stage.origins.len()).collect::<Vec<_>>()).await?;
        }
        let replies = found_busy(stage, contract, slow).await?;
        stage.note_lost(contract, &replies);
        let hits = replies.iter().filter(|reply| reply.origin == Some(slow)).count();
        let whole = !replies.is_empty() && lost(&replies) == 0;
        figure += if whole { hits as f64 } else { f64::INFINITY };
    }
    stage.measured(contract, says, figure, 0.0, Unit::Requests);
    Ok(())
}

/// What became of the seekers; nothing if the slow origin could not be made busy.
async fn found_busy(stage: &mut Stage, contract: &str, slow: usize) -> Result<Vec<Reply>, String> {
    let begin = Instant::now();
    // A balancer may owe the others a lot after an earlier check, and chooses the slow one only then.
    loop {
        match seek(stage, slow).await? {
            Some(replies) => return Ok(replies),
            None if begin.elapsed() >= FINDING => {
                stage.origins.change(slow, &json!({ "delay": "0s" })).await?;
                stage.note(format!(
                    "{contract} could not be measured: no request came to wait at the slow server and was answered by it"
                ));
                return Ok(Vec::new());
            }
            None => {}
        }
    }
}

/// What became of those that were asked while one request waited at this origin; nothing if none did, or not long enough.
async fn seek(stage: &mut Stage, slow: usize) -> Result<Option<Vec<Reply>>, String> {
    stage.origins.change(slow, &json!({ "delay": format!("{}ms", BUSY.as_millis()) })).await?;
    let Asked::Waits(first) = stage.one(VERY_LATE, 2 * BUSY).await else { return Ok(None) };
    let mut replies = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..SEEKERS {
        match stage.one(LATE, 2 * BUSY).await {
            Asked::Answered(reply) => replies.push(reply),
            Asked::Waits(late) => waiting.push(late),
        }
    }
    let in_time = !first.has_ended();
    // Not all of them: with a pair, the others are down.
    stage.origins.change(slow, &json!({ "delay": "0s" })).await?;
    // All end here: what follows begins with idle servers.
    for late in waiting {
        replies.push(stage.end(late).await);
    }
    let first = stage.end(first).await;
    Ok((in_time && first.origin == Some(slow) && first.fine()).then_some(replies))
}

/// What a crowd got, and how many requests each origin received of it.
async fn crowd(stage: &mut Stage) -> Result<(Vec<Reply>, Vec<u64>), String> {
    let servers = stage.origins.len();
    let before = stage.origins.received().await?;
    let replies = stage.crowd(3 * servers, 200 * servers as u64, LIMIT).await;
    let after = stage.origins.received().await?;
    Ok((replies, after.iter().zip(&before).map(|(after, before)| after.saturating_sub(*before)).collect()))
}

/// The first origin's share of what all received; infinite if more was lost than is `excused`, or nothing was received.
fn share_of_first(replies: &[Reply], received: &[u64], excused: u64) -> f64 {
    let all = received.iter().sum::<u64>();
    if all == 0 || replies.is_empty() || lost(replies) as u64 > excused {
        return f64::INFINITY;
    }
    received[0] as f64 / all as f64
}

fn part_of_first(stage: &Stage) -> f64 {
    let total: f64 = stage.weights().iter().map(|&w| f64::from(w)).sum();
    f64::from(stage.weights()[0]) / total
}

async fn slow(stage: &mut Stage) -> Result<(), String> {
    if !looks_at_load(stage.kind()) {
        stage.found("slow", SLOW, BLIND);
        return Ok(());
    }
    stage.origins.change_all(&json!({ "delay": "5ms" })).await?;
    stage.origins.change(0, &json!({ "delay": "100ms" })).await?;
    let (replies, received) = crowd(stage).await?;
    let part = part_of_first(stage);
    stage.note_lost("slow", &replies);
    stage.measured("slow", SLOW, share_of_first(&replies, &received, 0), part / 2.0, Unit::Part);
    stage.origins.calm().await
}

/// What a right balancer gives at most to a server that fails at once, or why it promises nothing of the kind.
fn chance_of_failing(kind: Kind, part: f64) -> Result<f64, Reading> {
    match kind {
        Kind::Best => Err(IDLE_FAILURES),
        Kind::Order => Err(ORDERED_FAILURES),
        Kind::BestOf(d) => Ok((f64::from(d) * part).min(1.0)),
        Kind::Keys(spread) if spread.bound.is_some() => Err(BOUND_FAILURES),
        // A key may be with any server; what counts is how many keys there are.
        Kind::Keys(spread) => Ok(part * (1.0 + 5.0 * spread.error)),
        _ => Ok(part),
    }
}

async fn failing(stage: &mut Stage) -> Result<(), String> {
    let chance = match chance_of_failing(stage.kind(), part_of_first(stage)) {
        Ok(chance) => chance,
        Err(unpromised) => {
            stage.found("failing", FAILING, unpromised);
            return Ok(());
        }
    };
    stage.origins.change_all(&json!({ "delay": "20ms" })).await?;
    stage.origins.change(0, &json!({ "delay": "0s", "error_rate": "100%" })).await?;
    let (replies, received) = crowd(stage).await?;
    // A client may see the failures of the one that fails, and no others.
    let excused = received[0];
    if lost(&replies) as u64 > excused {
        stage.note_lost("failing", &replies);
    }
    let all = received.iter().sum::<u64>().max(1);
    let share = share_of_first(&replies, &received, excused);
    stage.measured("failing", FAILING, share, share_bound(chance, all), Unit::Part);
    stage.origins.calm().await?;
    stage.settle().await;
    Ok(())
}

/// An origin stops listening and closes connections in place of answers, under traffic; then it is back.
async fn dying(stage: &mut Stage) -> Result<(), String> {
    let servers = stage.origins.len();
    // One that has something to lose.
    let victim = if stage.kind() == Kind::Order { 0 } else { 1 };
    stage.origins.change_all(&json!({ "delay": "5ms" })).await?;
    stage.crowd(2 * servers, 20 * servers as u64, LIMIT).await;
    // Those in flight are cut when they should be answered, those that follow find nobody.
    stage.origins.change(victim, &json!({ "delay": "5ms", "abort": true, "refuse": true })).await?;
    let replies = stage.crowd(2 * servers, 100 * servers as u64, LIMIT).await;
    stage.measured("dying", DYING, lost(&replies) as f64, 0.0, Unit::Requests);
    stage.origins.calm().await?;
    let revived = stage.settle().await.map_or(f64::INFINITY, |time| time.as_secs_f64());
    stage.measured("revived", REVIVED, revived, REVIVAL.as_secs_f64(), Unit::Seconds);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(statuses: impl IntoIterator<Item = (Option<usize>, u16)>) -> Vec<Reply> {
        statuses.into_iter().map(|(origin, status)| Reply { origin, status }).collect()
    }

    #[test]
    fn a_share_is_that_of_all_that_was_received() {
        let fine = replies([(Some(0), 200), (Some(1), 200)]);
        assert_eq!(share_of_first(&fine, &[1, 3], 0), 0.25);
    }

    #[test]
    fn who_refuses_or_receives_nothing_has_no_share_that_is_right() {
        let fine = replies([(Some(1), 200)]);
        let refused = replies([(Some(1), 200), (None, 503)]);
        assert_eq!(share_of_first(&fine, &[0, 0], 0), f64::INFINITY, "nothing received");
        assert_eq!(share_of_first(&[], &[0, 1], 0), f64::INFINITY, "nothing asked");
        assert_eq!(share_of_first(&refused, &[0, 1], 0), f64::INFINITY, "one refused");
    }

    #[test]
    fn the_failures_of_who_fails_are_excused_and_no_others() {
        let failed = replies([(Some(0), 500), (Some(1), 200), (Some(1), 200), (Some(1), 200)]);
        assert_eq!(share_of_first(&failed, &[1, 3], 1), 0.25);
        let refused = replies([(Some(0), 500), (Some(1), 200), (None, 503)]);
        assert_eq!(share_of_first(&refused, &[1, 1], 1), f64::INFINITY);
    }

    #[test]
    fn a_server_that_fails_gets_what_its_policy_cannot_help() {
        assert_eq!(chance_of_failing(Kind::Turns, 0.25), Ok(0.25));
        assert_eq!(chance_of_failing(Kind::BestOf(2), 0.25), Ok(0.5));
        assert_eq!(chance_of_failing(Kind::BestOf(2), 0.75), Ok(1.0));
        assert!(chance_of_failing(Kind::Best, 0.25).is_err());
    }
}
