//! Contracts of sticky sessions: a session stays as long as its server can serve, and else is served as any request.
//!
//! What sessions that go by a key share with hashes (balance, what moves, agreement) is held by those contracts, over the sessions' way in.

use plimsoll_traffic::{Dice, Session};

use super::promise::Kind;
use super::small::{LARGEST, ROLES, ROOM, Role, STATES, State, WITH_ROLES, every, is_right, load, stand};
use super::subject::{End, Maker, Stand, Subject};
use super::{Reading, Unit};

/// Every small backend with every state of its servers, for a session of one of them or of one that is gone.
pub(super) fn stays(kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    if kind != Kind::Sessions {
        return Reading::Unpromised("knows no sessions");
    }
    let mut broken = 0u64;
    let mut dice = Dice::new(seed ^ 14);
    for n in 1..=LARGEST {
        let roles: Vec<Vec<Role>> =
            if n <= WITH_ROLES { every(&ROLES, n).collect() } else { vec![vec![Role::Primary; n]] };
        for roles in roles {
            let stands: Vec<Stand> = roles.iter().enumerate().map(|(i, &role)| stand(i, role)).collect();
            let mut subject = make(&stands, dice.next());
            for states in every(&STATES, n) {
                let own = dice.below(n as u32 + 1);
                broken += u64::from(!case(&mut *subject, &roles, &states, own));
            }
        }
    }
    Reading::Measured { figure: broken as f64, bound: 0.0, unit: Unit::Cases }
}

fn case(subject: &mut dyn Subject, roles: &[Role], states: &[State], own: u32) -> bool {
    let loads: Vec<u32> = states.iter().zip(roles).map(|(&state, &role)| load(state, role)).collect();
    let mut right = true;
    for (server, &load) in (0u32..).zip(&loads) {
        // Sessions bring requests to a server whatever the others do.
        (0..load).for_each(|_| right &= subject.keep(Session::Server(server), &[]) == Some(server as usize));
    }
    let tried: Vec<u32> = (0u32..).zip(states).filter(|&(_, &s)| s == State::Tried).map(|(i, _)| i).collect();
    states.iter().enumerate().filter(|(_, s)| **s == State::Down).for_each(|(i, _)| subject.refuse(i));
    let chosen = subject.keep(Session::Server(own), &tried);
    let can_serve = states.get(own as usize).is_some_and(|s| matches!(s, State::Idle | State::Busy))
        || states.get(own as usize) == Some(&State::Full) && loads[own as usize] < ROOM;
    right &= match can_serve {
        true => chosen == Some(own as usize),
        false => is_right(Kind::BestOf(2), roles, states, chosen),
    };
    subject.wait(1_000);
    chosen.into_iter().for_each(|server| subject.end(server, End::Answered));
    for (server, &load) in loads.iter().enumerate() {
        (0..load).for_each(|_| subject.end(server, End::Answered));
    }
    subject.wait(1_001_000);
    right
}
