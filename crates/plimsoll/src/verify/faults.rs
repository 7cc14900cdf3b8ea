//! Checks from outside of what a balancer does about servers in trouble: busy, slow, failing, dying, back again.
//!
//! Who received how much is asked of the origins, since a balancer may try another server after a failure, which the answers don't show.

use std::time::{Duration, Instant};

use plimsoll_sim::contracts::{Kind, Reading, Unit, share_bound};
use serde_json::json;

use super::client::{Client, Trouble};
use super::outside::{REVIVAL, Stage};

/// After so long an answer is late: idle servers answer in a millisecond.
const LATE: Duration = Duration::from_millis(100);
/// How long a busy server takes. All requests of the check are asked meanwhile.
const BUSY: Duration = Duration::from_secs(4);
/// How long the busy server is looked for.
const FINDING: Duration = Duration::from_secs(10);
/// How many look for an idle server while one is busy.
const SEEKERS: u64 = 24;
/// The most that a check's crowd may take.
const LIMIT: Duration = Duration::from_secs(8);

const BUSY_SAYS: &str = "while one server is busy and others idle, none of 24 requests goes to it";
const PAIR_SAYS: &str = "the same with two servers left";
const SLOW: &str = "one server that is twenty times slower gets at most half of its share";
const FAILING: &str = "one server that fails at once gets no more of all requests";
const DYING: &str = "a server that dies costs no client an answer";
const REVIVED: &str = "a server that is back is used again within so many seconds";

/// Where load is looked at, and by how many draws.
const BLIND: Reading = Reading::Unpromised("does not look at load");

pub(super) async fn all(stage: &mut Stage) -> Result<(), String> {
    if stage.kind == Kind::Order {
        return Ok(());
    }
    busy(stage, "busy", BUSY_SAYS).await?;
    slow(stage).await?;
    failing(stage).await?;
    dying(stage).await?;
    let others: Vec<usize> = (2..stage.origins.len()).collect();
    for &origin in &others {
        stage.origins.change(origin, &json!({ "refuse": true, "abort": true })).await?;
    }
    stage.sequence(20 * stage.origins.len() as u64).await;
    busy(stage, "busy-pair", PAIR_SAYS).await?;
    stage.origins.calm().await
}

/// The first origin gets slow until one request waits there, then idle servers are looked for.
async fn busy(stage: &mut Stage, contract: &'static str, says: &'static str) -> Result<(), String> {
    if !matches!(stage.kind, Kind::Best | Kind::BestOf(_)) {
        stage.found(contract, says, BLIND);
        return Ok(());
    }
    stage.origins.change(0, &json!({ "delay": format!("{}ms", BUSY.as_millis()) })).await?;
    let mut waiting = Vec::new();
    let mut begin = Instant::now();
    let until = begin + FINDING;
    // A balancer may owe the others a lot after an earlier check, and chooses the first only then.
    while waiting.is_empty() && begin < until {
        begin = Instant::now();
        let client = stage.another_client();
        waiting.extend(is_late(client, stage.fresh_key()).await);
    }
    let found_one = !waiting.is_empty();
    let mut hits = 0u32;
    for _ in 0..SEEKERS {
        let client = stage.another_client();
        if let Some(late) = is_late(client, stage.fresh_key()).await {
            hits += 1;
            waiting.push(late);
        }
    }
    // Beyond the delay the first request has ended, and the server was idle again.
    let in_time = begin.elapsed() < BUSY;
    stage.origins.calm().await?;
    for late in waiting {
        // Whatever it got, it has ended: the next check begins with idle servers.
        let _ = late.await;
    }
    if found_one && in_time {
        stage.measured(contract, says, f64::from(hits), 0.0, Unit::Requests);
    } else {
        stage.note(format!(
            "{contract} could not be measured: the slow server was {}",
            if found_one { "chosen so often that it took too long" } else { "never chosen" }
        ));
        stage.measured(contract, says, f64::INFINITY, 0.0, Unit::Requests);
    }
    Ok(())
}

/// Asks; a request that is late goes on in a task of its own, which is returned.
async fn is_late(mut client: Client, key: u64) -> Option<tokio::task::JoinHandle<()>> {
    let mut asked = tokio::spawn(async move {
        match client.ask(key, 2 * BUSY).await {
            Ok(_) | Err(Trouble::Broken(_) | Trouble::Late) => {}
        }
    });
    tokio::time::timeout(LATE, &mut asked).await.is_err().then_some(asked)
}

/// Shares of what all origins received while `clients` asked for `total`.
async fn received_by_first(stage: &mut Stage, clients: usize, total: u64) -> Result<(f64, u64), String> {
    let before = stage.origins.received().await?;
    stage.crowd(clients, total, LIMIT).await;
    let after = stage.origins.received().await?;
    let counts: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    let all = counts.iter().sum::<u64>();
    Ok((counts[0] as f64 / all.max(1) as f64, all))
}

fn part_of_first(stage: &Stage) -> f64 {
    let total: f64 = stage.weights.iter().map(|&w| f64::from(w)).sum();
    f64::from(stage.weights[0]) / total
}

async fn slow(stage: &mut Stage) -> Result<(), String> {
    if !matches!(stage.kind, Kind::Best | Kind::BestOf(_)) {
        stage.found("slow", SLOW, BLIND);
        return Ok(());
    }
    let servers = stage.origins.len();
    stage.origins.change_all(&json!({ "delay": "5ms" })).await?;
    stage.origins.change(0, &json!({ "delay": "100ms" })).await?;
    let (share, _) = received_by_first(stage, 3 * servers, 200 * servers as u64).await?;
    let part = part_of_first(stage);
    stage.measured("slow", SLOW, share, part / 2.0, Unit::Part);
    stage.origins.calm().await
}

async fn failing(stage: &mut Stage) -> Result<(), String> {
    let servers = stage.origins.len();
    let part = part_of_first(stage);
    let chance = match stage.kind {
        Kind::Best => {
            stage.found(
                "failing",
                FAILING,
                Reading::Unpromised("a server that fails at once is always the least busy"),
            );
            return Ok(());
        }
        Kind::BestOf(d) => (f64::from(d) * part).min(1.0),
        Kind::Keys(spread) if spread.bound.is_some() => {
            let why = "what is above the bound elsewhere goes to whoever is idle";
            stage.found("failing", FAILING, Reading::Unpromised(why));
            return Ok(());
        }
        // A key may be with any server; what counts is how many keys there are.
        Kind::Keys(spread) => part * (1.0 + 5.0 * spread.error),
        _ => part,
    };
    stage.origins.change_all(&json!({ "delay": "20ms" })).await?;
    stage.origins.change(0, &json!({ "delay": "0s", "error_rate": "100%" })).await?;
    let (share, received) = received_by_first(stage, 3 * servers, 200 * servers as u64).await?;
    stage.measured("failing", FAILING, share, share_bound(chance, received.max(1)), Unit::Part);
    stage.origins.calm().await?;
    stage.settle().await;
    Ok(())
}

/// The second origin stops listening and closes connections in place of answers, under traffic; then it is back.
async fn dying(stage: &mut Stage) -> Result<(), String> {
    let servers = stage.origins.len();
    stage.origins.change_all(&json!({ "delay": "5ms" })).await?;
    stage.crowd(2 * servers, 20 * servers as u64, LIMIT).await;
    // Those in flight are cut when they should be answered, those that follow find nobody.
    stage.origins.change(1, &json!({ "delay": "5ms", "abort": true, "refuse": true })).await?;
    let replies = stage.crowd(2 * servers, 100 * servers as u64, LIMIT).await;
    let lost = replies.iter().filter(|reply| !reply.fine).count();
    stage.measured("dying", DYING, lost as f64, 0.0, Unit::Requests);
    stage.origins.calm().await?;
    let revived = stage.settle().await.map_or(f64::INFINITY, |time| time.as_secs_f64());
    stage.measured("revived", REVIVED, revived, REVIVAL.as_secs_f64(), Unit::Seconds);
    Ok(())
}
