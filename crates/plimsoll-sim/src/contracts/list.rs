//! The list of all contracts, and which kinds of policies each is for.
//!
//! A contract comes in by one entry. What holds for everybody who chooses is held over the way in that a policy has: sessions by their keys.

use super::promise::{Kind, RENDEZVOUS};
use super::subject::{ByKey, Maker, Stand, Subject};
use super::{Contract, Reading, bounds, keys, levels, load, reports, sessions, shares, small, subsets};

/// All of them, in the order in which they are shown.
pub const CONTRACTS: [Contract; 30] = [
    Contract {
        name: "uniform",
        says: "ten equal, idle servers get equally many",
        measure: |k, m, s| unheard(shares::uniform, k, m, s),
    },
    Contract {
        name: "weights",
        says: "weights of 1 to 10 are kept",
        measure: |k, m, s| unheard(shares::weights, k, m, s),
    },
    Contract {
        name: "one-down",
        says: "with one of four down, the others keep their weights",
        measure: |k, m, s| unheard(shares::one_down, k, m, s),
    },
    Contract {
        name: "smooth",
        says: "with weights 10, 1, 1, … nobody is ahead or behind in any window",
        measure: |k, m, s| unheard(shares::smooth, k, m, s),
    },
    Contract {
        name: "starvation",
        says: "no idle server of ten waits longer for its next request",
        measure: |k, m, s| unheard(shares::starvation, k, m, s),
    },
    Contract {
        name: "ties",
        says: "among 200 idle servers, fullest and emptiest are close",
        measure: |k, m, s| unheard(shares::ties, k, m, s),
    },
    Contract {
        name: "herd",
        says: "an empty server among nine full ones gets no more of the next",
        measure: |k, m, s| unheard(load::herd, k, m, s),
    },
    Contract {
        name: "stuck",
        says: "one of fifty that never answers gets no more of all requests",
        measure: |k, m, s| chooser(load::stuck, k, m, s),
    },
    Contract {
        name: "failing",
        says: "one of fifty that fails at once gets no more of all requests",
        measure: |k, m, s| chooser(load::failing, k, m, s),
    },
    Contract {
        name: "small",
        says: "1 to 6 servers, every state of each: only what can serve, and the less busy",
        measure: |k, m, s| unheard(small::choices, k, m, s),
    },
    Contract {
        name: "small-shares",
        says: "1 to 6 servers, whichever are down: those left share evenly",
        measure: |k, m, s| unheard(small::shares, k, m, s),
    },
    Contract {
        name: "outage",
        says: "a server that is down moves no key of another",
        measure: |k, m, s| unheard(keys::outage, k, m, s),
    },
    Contract {
        name: "removal",
        says: "a server that is taken out moves few keys of others",
        measure: |k, m, s| unheard(keys::removal, k, m, s),
    },
    Contract {
        name: "agreement",
        says: "instances agree on every key, whatever the order of the file",
        measure: |k, m, s| unheard(keys::agreement, k, m, s),
    },
    Contract {
        name: "order",
        says: "a later server gets something only while the earlier ones are full",
        measure: |k, m, s| unheard(small::order, k, m, s),
    },
    Contract {
        name: "return",
        says: "every key is back where it was when its server is",
        measure: |k, m, s| unheard(keys::back, k, m, s),
    },
    Contract {
        name: "bound",
        says: "no server has more in flight than its bound, with hot keys and weights",
        measure: bounds::most_in_flight,
    },
    Contract {
        name: "bound-small",
        says: "1 to 6 servers, every load: a key leaves its own for the bound alone, to one within it",
        measure: bounds::small,
    },
    Contract {
        name: "bound-displaced",
        says: "with a bound of 1.25 and twenty requests a server, 11.3 % are not at their own, give or take",
        measure: bounds::displaced,
    },
    Contract {
        name: "spill",
        says: "with ever fewer of a level up, its part is what the rule says",
        measure: |k, m, s| unheard(levels::spill, k, m, s),
    },
    Contract {
        name: "levels",
        says: "1 to 6 servers of 3 levels and backups, any number down: each level gets its part",
        measure: |k, m, s| unheard(levels::small, k, m, s),
    },
    Contract {
        name: "reports",
        says: "1 to 6 servers, whatever they said: the fastest that is not hot, else the least loaded",
        measure: reports::choices,
    },
    Contract {
        name: "reports-old",
        says: "what one of fifty said a second ago brings it no more than two draws do",
        measure: reports::old,
    },
    Contract {
        name: "reports-used",
        says: "one report brings one of fifty no more requests",
        measure: reports::used,
    },
    Contract { name: "asked", says: "servers are asked by weight, as often as set", measure: reports::asked },
    Contract {
        name: "unheard",
        says: "one of fifty that nobody has heard of waits no longer for a request",
        measure: reports::unheard,
    },
    Contract {
        name: "subset",
        says: "an instance uses so many servers, the same whatever the order of the file",
        measure: subsets::stable,
    },
    Contract {
        name: "subset-change",
        says: "a server that goes changes no more of a subset",
        measure: subsets::change,
    },
    Contract {
        name: "subset-even",
        says: "over 400 instances servers are used as evenly as by chance",
        measure: subsets::even,
    },
    Contract {
        name: "session",
        says: "1 to 6 servers, every state of each: a session stays while its server can serve",
        measure: sessions::stays,
    },
];

type Measure = fn(Kind, &Maker<'_>, u64) -> Reading;

/// For everybody who chooses.
fn chooser(measure: Measure, kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    match kind {
        Kind::Subset(_) => Reading::Unpromised("says who can be chosen, not how"),
        Kind::Sessions => {
            let by_key =
                |servers: &[Stand], seed| -> Box<dyn Subject> { Box::new(ByKey(make(servers, seed))) };
            measure(Kind::Keys(RENDEZVOUS), &by_key, seed)
        }
        kind => measure(kind, make, seed),
    }
}

/// The same where no server reports: then who goes by reports takes the best of two.
fn unheard(measure: Measure, kind: Kind, make: &Maker<'_>, seed: u64) -> Reading {
    let kind = if let Kind::Reports { .. } = kind { Kind::BestOf(2) } else { kind };
    chooser(measure, kind, make, seed)
}
