//! Checks from outside of who gets how much while nobody is busy: all up, one down, few left; and of keys.
//!
//! Shares are counted from the answers, which say who gave them. A server goes down by no longer listening, and the balancer finds out as it
//! always does.

use plimsoll_sim::contracts::{Kind, Reading, Unit};

use super::figures::{evenness, moved, widest_lead};
use super::stage::Stage;

/// Requests for each server.
const EACH: u64 = 150;
const KEYS: u64 = 400;

const SHARES: &str = "idle servers get what their weights say";
const SMOOTH: &str = "nobody is ahead or behind by a request, in any window";
const ONE_DOWN: &str = "with one down, the others keep their weights";
const SMALL: &str =
    "with ever fewer left, down to one, those left share by weight (the worst, in parts of its bound)";
const OUTAGE: &str = "a server that is down moves no key of another";
const RETURN: &str = "every key is back where it was when the server is";

pub(super) async fn all(stage: &mut Stage) -> Result<(), String> {
    if stage.wants(&["shares", "smooth"]) {
        idle(stage).await;
    }
    if stage.wants(&["outage", "return"]) && matches!(stage.kind(), Kind::Keys(_)) {
        keys(stage).await?;
    }
    if stage.wants(&["one-down", "small"]) {
        few(stage).await?;
    }
    Ok(())
}

async fn idle(stage: &mut Stage) {
    let everyone = vec![true; stage.origins.len()];
    let replies = stage.sequence(EACH * stage.origins.len() as u64).await;
    let (figure, bound) = evenness(stage.kind(), stage.weights(), &replies, &everyone);
    stage.note_lost("shares", &replies);
    stage.measured("shares", SHARES, figure, bound, Unit::ChiSquare);
    match stage.kind() {
        Kind::Turns => {
            let figure = widest_lead(stage.weights(), &replies);
            stage.measured("smooth", SMOOTH, figure, 2.0, Unit::Requests);
        }
        _ => stage.found("smooth", SMOOTH, Reading::Unpromised("the order is left to chance, load or keys")),
    }
}

/// Takes servers down one after the other, from the second on, and looks at those left.
async fn few(stage: &mut Stage) -> Result<(), String> {
    let servers = stage.origins.len();
    let mut up = vec![true; servers];
    let mut worst = 0.0f64;
    let mut replies = Vec::new();
    for down in 1..servers {
        stage.take_down(&[down]).await?;
        up[down] = false;
        let left = up.iter().filter(|&&up| up).count();
        let of_left = stage.sequence(EACH * left as u64).await;
        let (figure, bound) = evenness(stage.kind(), stage.weights(), &of_left, &up);
        if down == 1 {
            stage.note_lost("one-down", &of_left);
            stage.measured("one-down", ONE_DOWN, figure, bound, Unit::ChiSquare);
        }
        // Of one that is left nothing varies, and its bound is 0 where no key does.
        worst = worst.max(if bound > 0.0 { figure / bound } else { figure });
        replies.extend(of_left);
    }
    stage.note_lost("small", &replies);
    stage.measured("small", SMALL, worst, 1.0, Unit::Part);
    stage.revive().await
}

async fn keys(stage: &mut Stage) -> Result<(), String> {
    let range = 1_000_000..1_000_000 + KEYS;
    let before = stage.keys(range.clone()).await;
    stage.take_down(&[1]).await?;
    let during = stage.keys(range.clone()).await;
    stage.note_lost("outage", &during);
    stage.measured("outage", OUTAGE, moved(&before, &during, Some(1)), 0.0, Unit::Part);
    stage.revive().await?;
    let after = stage.keys(range).await;
    stage.note_lost("return", &after);
    stage.measured("return", RETURN, moved(&before, &after, None), 0.0, Unit::Part);
    Ok(())
}
