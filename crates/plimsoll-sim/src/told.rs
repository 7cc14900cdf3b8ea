//! A list of servers that changes while requests are under way: what the balancers are told of who there is, with which weight and state.
//!
//! In go a scenario's `list` and `churn`, out come changes of the timeline, and then reloads like production's. A list is what discovery believes; whether it believes
//! an answer is decided before, in `plimsoll-control`, and is not simulated.

use std::ops::Range;

use plimsoll_config::model::{self, ServerState};

use crate::engine::Run;
use crate::events::Event;
use crate::world::{Change, What, World};

/// What `churn` tells a server, again and again.
const ROUND: [What; 5] = [
    What::Present(true),
    What::Weight(3),
    What::State(ServerState::Drain),
    What::State(ServerState::Ready),
    What::Present(false),
];

/// By the world's server: the weight and the state that it was told, if it was.
#[derive(Debug)]
pub(crate) struct Told(Vec<(Option<u16>, Option<ServerState>)>);

impl Told {
    pub(crate) fn nothing(servers: usize) -> Told {
        Told(vec![(None, None); servers])
    }

    /// Tells these balancers' servers, which are those of the world.
    pub(crate) fn apply(&self, of_world: &[u32], servers: &mut [model::Server]) {
        for (&index, server) in of_world.iter().zip(servers) {
            let (weight, state) = self.0[index as usize];
            server.weight = weight.unwrap_or(server.weight);
            server.state = state.unwrap_or(server.state);
        }
    }
}

impl World {
    /// From then on there are these groups and no others. Who comes does so before the others go.
    pub(crate) fn list(&mut self, at: f64, listed: &[Range<usize>]) {
        let groups: Vec<Range<usize>> = self.groups.iter().map(|(_, range)| range.clone()).collect();
        for is_there in [true, false] {
            let concerned = groups.iter().filter(|group| listed.contains(group) == is_there);
            let change = |servers: &Range<usize>| Change {
                at,
                servers: servers.clone(),
                what: What::Present(is_there),
            };
            self.timeline.extend(concerned.map(change));
        }
    }

    /// One change after another, `every` so many units: they come, get a weight, drain, are ready, and go.
    pub(crate) fn churn(&mut self, (from, until): (f64, f64), every: f64, servers: &Range<usize>) {
        let changes = ((until - from) / every).round() as usize;
        let change = |(number, what): (usize, &What)| Change {
            at: from + number as f64 * every,
            servers: servers.clone(),
            what: *what,
        };
        self.timeline.extend(ROUND.iter().cycle().take(changes).enumerate().map(change));
    }
}

impl Run<'_> {
    /// Tells the balancers what has changed; false if the change is none of what they are told.
    pub(crate) fn tell(&mut self, change: &Change) -> bool {
        let surroundings = &mut self.surroundings;
        let mut new = Vec::new();
        for index in change.servers.clone() {
            match change.what {
                What::Present(is_there) => {
                    if is_there && surroundings.gone[index] {
                        new.push(index as u32);
                    }
                    surroundings.gone[index] = !is_there;
                    surroundings.told.0[index] = (None, None);
                }
                What::Weight(weight) => surroundings.told.0[index].0 = Some(weight),
                What::State(state) => surroundings.told.0[index].1 = Some(state),
                _ => return false,
            }
        }
        self.reload();
        self.check_new(&new);
        true
    }

    /// A server that is new is checked at once.
    fn check_new(&mut self, new: &[u32]) {
        for instance in 0..self.world.instances {
            new.iter().for_each(|&server| self.events.push(self.now, Event::Check { instance, server }));
        }
    }

    pub(crate) fn reload(&mut self) {
        self.front.reload(self.world, &self.surroundings.gone, &self.surroundings.told);
    }
}
