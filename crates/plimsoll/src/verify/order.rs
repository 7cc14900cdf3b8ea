//! The check from outside of who goes by the order of the list: while nobody is busy, the first that is up takes everything.

use plimsoll_sim::contracts::Unit;

use super::stage::Stage;

/// Requests for each place in the list.
const EACH: u64 = 100;

const ORDER: &str = "idle, the first that is up takes everything, down to the last";

pub(super) async fn all(stage: &mut Stage) -> Result<(), String> {
    if !stage.wants(&["order"]) {
        return Ok(());
    }
    let mut replies = Vec::new();
    let mut elsewhere = 0;
    for first in 0..stage.origins.len() {
        if let Some(dead) = first.checked_sub(1) {
            stage.take_down(&[dead]).await?;
        }
        let of_first = stage.sequence(EACH).await;
        elsewhere += of_first.iter().filter(|reply| reply.origin != Some(first) || !reply.fine()).count();
        replies.extend(of_first);
    }
    stage.note_lost("order", &replies);
    stage.measured("order", ORDER, elsewhere as f64, 0.0, Unit::Requests);
    stage.revive().await
}
