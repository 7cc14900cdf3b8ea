//! Checks from outside of who gets how much while nobody is busy: all up, one down, few left; and of keys.
//!
//! Shares are counted from the answers, which say who gave them. A server goes down by no longer listening, and the balancer finds out as it
//! always does.

use plimsoll_sim::contracts::{Kind, Reading, Spread, Unit, chi_square, chi_square_bound};
use serde_json::json;

use super::outside::{Reply, Stage};

/// Requests for each server.
const EACH: u64 = 150;
const KEYS: u64 = 400;
const FIRST_TAKES_ALL: Reading = Reading::Unpromised("idle, the first server takes everything");

const SHARES: &str = "idle servers get what their weights say";
const SMOOTH: &str = "nobody is ahead or behind by a request, in any window";
const ONE_DOWN: &str = "with one down, the others keep their weights";
const SMALL: &str =
    "with ever fewer left, down to one, those left share by weight (the worst, in parts of its bound)";
const OUTAGE: &str = "a server that is down moves no key of another";
const RETURN: &str = "every key is back where it was when the server is";

pub(super) async fn all(stage: &mut Stage) -> Result<(), String> {
    if stage.kind == Kind::Order {
        for (contract, says) in [("shares", SHARES), ("one-down", ONE_DOWN), ("small", SMALL)] {
            stage.found(contract, says, FIRST_TAKES_ALL);
        }
        return Ok(());
    }
    let everyone = vec![true; stage.origins.len()];
    let replies = stage.sequence(EACH * stage.origins.len() as u64).await;
    let (figure, bound) = evenness(stage, &replies, &everyone);
    stage.measured("shares", SHARES, figure, bound, Unit::ChiSquare);
    match stage.kind {
        Kind::Turns => {
            let figure = widest_lead(stage, &replies);
            stage.measured("smooth", SMOOTH, figure, 2.0, Unit::Requests);
        }
        _ => stage.found("smooth", SMOOTH, Reading::Unpromised("the order is left to chance, load or keys")),
    }
    if let Kind::Keys(_) = stage.kind {
        keys(stage).await?;
    }
    few(stage).await
}

/// Chi-square of those that are up, and its bound; a lost request counts for as much as a broken contract.
fn evenness(stage: &Stage, replies: &[Reply], up: &[bool]) -> (f64, f64) {
    let mut counts = vec![0u64; up.len()];
    replies.iter().filter_map(|reply| reply.origin).for_each(|origin| counts[origin] += 1);
    let weight = |i: usize| if up[i] { f64::from(stage.weights[i]) } else { 0.0 };
    let total: f64 = (0..up.len()).map(weight).sum();
    let parts: Vec<f64> = (0..up.len()).map(|i| weight(i) / total).collect();
    let left = up.iter().filter(|&&up| up).count();
    let strays: u64 = (0..up.len()).filter(|&i| !up[i]).map(|i| counts[i]).sum();
    let by_chance = if left == 1 { 0.0 } else { chi_square_bound(left - 1) };
    let bound = match stage.kind {
        Kind::Keys(Spread { error, outage, .. }) => {
            let error = if left == up.len() { error } else { outage };
            by_chance + replies.len() as f64 * error * error * 5.0
        }
        _ => by_chance,
    };
    let lost = if strays > 0 { f64::INFINITY } else { 0.0 };
    (if left == 1 { lost } else { chi_square(&counts, &parts) + lost }, bound)
}

/// The widest range of a server's lead over its share.
fn widest_lead(stage: &Stage, replies: &[Reply]) -> f64 {
    let total: f64 = stage.weights.iter().map(|&w| f64::from(w)).sum();
    let range = |(origin, &weight): (usize, &u16)| {
        let (mut lead, mut least, mut most) = (0.0f64, 0.0f64, 0.0f64);
        for reply in replies {
            lead += f64::from(u8::from(reply.origin == Some(origin))) - f64::from(weight) / total;
            (least, most) = (least.min(lead), most.max(lead));
        }
        most - least
    };
    stage.weights.iter().enumerate().map(range).fold(0.0, f64::max)
}

/// Takes servers down one after the other, from the second on, and looks at those left.
async fn few(stage: &mut Stage) -> Result<(), String> {
    let servers = stage.origins.len();
    let mut up = vec![true; servers];
    let mut worst = 0.0f64;
    for down in 1..servers {
        stage.origins.change(down, &json!({ "refuse": true, "abort": true })).await?;
        up[down] = false;
        // The balancer finds out; what it costs is for another check.
        stage.sequence(20 * servers as u64).await;
        let left = up.iter().filter(|&&up| up).count();
        let replies = stage.sequence(EACH * left as u64).await;
        let (figure, bound) = evenness(stage, &replies, &up);
        if down == 1 {
            stage.measured("one-down", ONE_DOWN, figure, bound, Unit::ChiSquare);
        }
        worst = worst.max(if bound > 0.0 { figure / bound } else { figure });
    }
    stage.measured("small", SMALL, worst, 1.0, Unit::Part);
    revive(stage).await
}

/// All up again, and heard.
async fn revive(stage: &mut Stage) -> Result<(), String> {
    stage.origins.calm().await?;
    if stage.settle().await.is_none() {
        stage.note(
            "a server that came back was not used again in time; what follows is measured without it"
                .to_owned(),
        );
    }
    Ok(())
}

async fn keys(stage: &mut Stage) -> Result<(), String> {
    let range = 1_000_000..1_000_000 + KEYS;
    let before = stage.keys(range.clone()).await;
    stage.origins.change(1, &json!({ "refuse": true, "abort": true })).await?;
    stage.sequence(20 * stage.origins.len() as u64).await;
    let during = stage.keys(range.clone()).await;
    let moved = |now: &[Reply], from: &dyn Fn(&Reply) -> bool| {
        let of = || before.iter().zip(now).filter(|(before, _)| from(before));
        of().filter(|(before, now)| before.origin != now.origin).count() as f64 / of().count().max(1) as f64
    };
    stage.measured("outage", OUTAGE, moved(&during, &|before| before.origin != Some(1)), 0.0, Unit::Part);
    revive(stage).await?;
    let after = stage.keys(range).await;
    stage.measured("return", RETURN, moved(&after, &|_| true), 0.0, Unit::Part);
    Ok(())
}
