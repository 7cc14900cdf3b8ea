//! Servers that are new, or back from maintenance: they get nothing before a check has passed, and are no reason for anything, while anybody is well.

use std::sync::Arc;

use plimsoll_config::model::{self, ServerState};

use super::tests::{SECOND, barred, checked, fail, spec, state};
use super::{State, Turn};
use crate::backend::Backend;
use crate::balancer::{Ask, Balancer};
use crate::dice::Dice;
use crate::time::{Micros, Millis};

/// The first so many are well; the others' checks have failed.
fn joined(well: usize, spec: &model::Backend) -> Backend {
    let first = model::Backend { servers: spec.servers[..well].to_vec(), ..spec.clone() };
    let first = Backend::new(&first, None);
    (0..well).for_each(|i| first.checked(i, Ok(()), Millis(SECOND)));
    let all = Backend::new(spec, Some(&first));
    assert_eq!(barred(&all).len(), spec.servers.len() - well, "at once, not at the next tick");
    all.tick(Millis(2 * SECOND));
    let new = well..spec.servers.len();
    assert!(new.clone().all(|i| state(&all, i) == State::Starting && all.servers[i].live.is_barred()));
    new.for_each(|i| all.checked(i, Err("status 500"), Millis(2 * SECOND)));
    all
}

#[test]
fn however_many_are_new_they_get_nothing_while_anybody_is_well() {
    let all = joined(2, &checked(8));
    assert_eq!((barred(&all), all.panics()), ((2..8).collect(), false));
    (0..3).for_each(|_| all.checked(0, Err("x"), Millis(3 * SECOND)));
    assert_eq!((barred(&all), all.panics()), (vec![0, 2, 3, 4, 5, 6, 7], false), "half of two are well");
    (0..3).for_each(|_| all.checked(1, Err("x"), Millis(3 * SECOND)));
    assert_eq!((barred(&all), all.panics()), (vec![], true), "nobody is known to be well");
    all.checked(7, Ok(()), Millis(4 * SECOND));
    assert_eq!((barred(&all), all.panics()), ((2..7).collect(), true), "a third of those that have passed");
    all.checked(6, Ok(()), Millis(4 * SECOND));
    assert_eq!((barred(&all), all.panics()), ((0..6).collect(), false));
    let never = Backend::new(&model::Backend { panic: 0, ..checked(3) }, None);
    assert_eq!((barred(&never), never.panics()), (vec![0, 1, 2], false), "nor ever, if that is said");
}

#[test]
fn those_that_are_new_keep_nobody_from_being_ejected_and_are_nobody_that_is_left() {
    let all = joined(2, &checked(8));
    fail(&all, 0, 5, 3 * SECOND);
    assert_eq!(state(&all, 0), State::Ejected);
    fail(&all, 1, 5, 3 * SECOND);
    assert_eq!((state(&all, 1), barred(&all).len()), (State::Up, 7));
    let one = joined(1, &checked(3));
    fail(&one, 0, 5, 3 * SECOND);
    assert_eq!(state(&one, 0), State::Up, "the others have never served");
}

#[test]
fn those_that_are_new_send_nobody_to_another_level() {
    let mut spec = checked(7);
    spec.servers[2].priority = 1;
    spec.servers[6].backup = true;
    let all = Arc::new(joined(3, &spec));
    let balancer = Balancer::new(Arc::clone(&all), &mut Dice::new(1));
    let mut dice = Dice::new(2);
    let mut to = |server: u32, now: u64| {
        let ask = Ask { now: Micros(now * 1_000), key: 0, tried: &[] };
        let pick = |_| balancer.pick(&ask, &mut dice).expect("somebody serves").index();
        (0..1_000).map(pick).filter(|index| *index == server).count()
    };
    assert_eq!(to(2, 3 * SECOND), 0);
    (0..3).for_each(|_| all.checked(0, Err("x"), Millis(3 * SECOND)));
    let spilt = to(2, 4 * SECOND);
    assert!(spilt.abs_diff(300) < 60, "one of two is well: 70 % stay, {spilt} did not");
    (0..3).for_each(|_| all.checked(1, Err("x"), Millis(4 * SECOND)));
    assert_eq!(to(2, 5 * SECOND), 1_000, "the level that serves");
}

#[test]
fn one_that_comes_back_from_maintenance_is_new_and_one_that_drained_is_not() {
    let with = |states: [ServerState; 3], previous: Option<&Backend>| {
        let mut spec = checked(3);
        spec.servers.iter_mut().zip(states).for_each(|(server, state)| server.state = state);
        Backend::new(&spec, previous)
    };
    let all = [ServerState::Ready; 3];
    let ready = with(all, None);
    (0..3).for_each(|i| ready.checked(i, Ok(()), Millis(SECOND)));
    let out = with([ServerState::Ready, ServerState::Drain, ServerState::Maint], Some(&ready));
    out.tick(Millis(2 * SECOND));
    assert_eq!((barred(&out), state(&out, 2)), (vec![2], State::Up));
    let told = |server: usize| out.servers[server].memory(Millis(2 * SECOND)).and_then(|it| it.health);
    let check = |server: usize| told(server).map(|health| (health.check, health.has_passed));
    assert_eq!([check(1), check(2)], [Some((Some(true), true)), Some((None, false))]);
    let back = with(all, Some(&out));
    assert_eq!(barred(&back), [2], "before it is in force, too");
    back.tick(Millis(3 * SECOND));
    assert_eq!((barred(&back), state(&back, 1), state(&back, 2)), (vec![2], State::Up, State::Starting));
    assert_eq!((back.condition(2).since, back.awaits_check(2)), (Millis(3 * SECOND), true));
    back.tick(Millis(4 * SECOND));
    back.checked(2, Err("status 500"), Millis(4 * SECOND));
    assert_eq!((barred(&back), state(&back, 2)), (vec![2], State::Down), "one result says it");
    back.checked(2, Ok(()), Millis(5 * SECOND));
    assert_eq!((barred(&back), state(&back, 2)), (vec![], State::Up), "one pass is enough");
    assert!(back.ramp.is_active(Millis(14 * SECOND)), "slowly, from then on");
    let turns: Vec<Turn> = back.turns().into_iter().map(|turn| turn.0).collect();
    assert_eq!(turns, [Turn::Down, Turn::Up]);
}

#[test]
fn one_that_comes_back_serves_at_once_where_nobody_else_is_well_or_nothing_is_checked() {
    let with = |spec: &model::Backend, state: ServerState, previous: Option<&Backend>| {
        let mut spec = spec.clone();
        spec.servers.iter_mut().for_each(|server| server.state = state);
        let backend = Backend::new(&spec, previous);
        backend.tick(Millis(SECOND));
        backend
    };
    for (spec, expected) in [(checked(2), State::Starting), (spec(2), State::Up)] {
        let ready = with(&spec, ServerState::Ready, None);
        (0..2).for_each(|i| ready.checked(i, Ok(()), Millis(SECOND)));
        let out = with(&spec, ServerState::Maint, Some(&ready));
        assert_eq!(barred(&out), [0, 1]);
        let back = with(&spec, ServerState::Ready, Some(&out));
        assert_eq!((barred(&back), state(&back, 0)), (vec![], expected));
    }
}
