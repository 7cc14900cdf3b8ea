//! Request smuggling, class by class, through the real program.
//!
//! The table (in `smuggling/`) gives raw bytes and what must come of them: refused with one of these statuses and the
//! connection closed, or exactly the meant request at the server behind. Each case runs on a connection of its own,
//! whole and byte by byte, followed by a probe on the same connection and, where it is refused, also by a pipelined
//! request that must never arrive. At the end every byte that any server connection received has to read as meant.

#[path = "smuggling/chunks.rs"]
mod chunks;
#[path = "smuggling/framing.rs"]
mod framing;
#[path = "smuggling/hosts.rs"]
mod hosts;
#[path = "smuggling/lines.rs"]
mod lines;
#[path = "smuggling/semantics.rs"]
mod semantics;
mod support;
#[path = "smuggling/table.rs"]
mod table;

use std::collections::BTreeSet;

use support::oracle::{self, Asked, Request, Rules, Verdict};
use support::{Answer, Client, Origin, Plimsoll, get, show};
use table::{Case, Meant, Outcome};

fn cases() -> Vec<Case> {
    let tables = [framing::cases(), chunks::cases(), lines::cases(), hosts::cases(), semantics::cases()];
    tables.into_iter().flatten().collect()
}

#[test]
fn the_table_is_large_and_its_names_are_unique() {
    let names: Vec<&str> = cases().iter().map(|case| case.name).collect();
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), unique.len());
    assert!(names.len() >= 600, "{} cases", names.len());
}

#[test]
fn the_table_agrees_with_the_oracle() {
    let faults: Vec<String> = cases().iter().filter_map(|case| judge(case).err()).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whether the oracle reads a case's bytes as its outcomes say.
fn judge(case: &Case) -> Result<(), String> {
    let mut rest = &case.bytes[..];
    for outcome in &case.outcomes {
        let verdict = oracle::request(rest, &Rules::default());
        let agrees = match (outcome, &verdict) {
            (Outcome::Arrives(meant), Verdict::Message(request)) => {
                request.method == meant.method.as_bytes()
                    && request.body == meant.body
                    && (request.keep_alive || meant.closes)
            }
            (Outcome::Refused(_) | Outcome::RefusedInBody(_) | Outcome::Ends(_), Verdict::Reject(_)) => true,
            (Outcome::Either(..), Verdict::Message(_) | Verdict::Reject(_)) => true,
            (Outcome::Abandoned, Verdict::Incomplete) => true,
            _ => false,
        };
        if !agrees {
            return Err(format!("{}: {outcome:?}, but the oracle says {verdict:?}", case.name));
        }
        rest = verdict.message().map_or(&[][..], |request| &rest[request.consumed..]);
    }
    Ok(())
}

#[test]
fn each_case_ends_as_meant() {
    run_table(&[Sending::Whole, Sending::WithTail]);
}

#[test]
fn each_case_ends_as_meant_byte_by_byte() {
    run_table(&[Sending::Trickle]);
}

/// How a case's bytes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Whole,
    /// With a pipelined request behind.
    WithTail,
    Trickle,
}

/// Failures after which a run gives up: each may have cost all our patience.
const ENOUGH_FAILURES: usize = 20;

fn run_table(sendings: &[Sending]) {
    let origin = Origin::serve();
    let program = Plimsoll::before(&[origin.address()]);
    let mut stage = Stage { origin, program, number: 0, meant: BTreeSet::new(), cut: BTreeSet::new() };
    let mut failures = Vec::new();
    'table: for case in &cases() {
        for &sending in sendings {
            if let Err(reason) = stage.run(case, sending) {
                failures.push(format!("{} ({sending:?}): {reason}\n    {}", case.name, show(&case.bytes)));
            }
            if failures.len() >= ENOUGH_FAILURES {
                break 'table;
            }
        }
    }
    failures.extend(stage.check_every_byte());
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// The program between the client and the recording server, and what the server may receive.
struct Stage {
    program: Plimsoll,
    origin: Origin,
    /// Of the run; part of every path, so that a straggler is known by its path.
    number: usize,
    /// Method, target and body of all requests that may arrive.
    meant: BTreeSet<(Vec<u8>, Vec<u8>, Vec<u8>)>,
    /// Numbers of the runs that may leave an unfinished request.
    cut: BTreeSet<usize>,
}

impl Stage {
    fn run(&mut self, case: &Case, sending: Sending) -> Result<(), String> {
        self.number += 1;
        let before = self.origin.arrived(0).len();
        let leftover = self.origin.leftover();
        let mut expected: Vec<Meant> = Vec::new();

        let result = self.converse(case, sending, &mut expected);
        if case.may_be_cut() {
            self.cut.insert(self.number);
            self.origin.wait_until("the end of connections with half a request", |connections| {
                connections.iter().all(|c| c.closed || c.received.len() == c.taken)
            });
        }
        // A request of another connection comes last: the one worker has finished with this case before it.
        let sync = format!("/sync-{:04}", self.number);
        let answer = self.one_request(&sync);
        expected.push(Meant::get(&sync));
        result?;
        if answer.status() != Some(200) {
            return Err(format!("the next client got {}", answer.describe()));
        }
        self.check_arrivals(before, &expected)?;
        match self.origin.leftover() == leftover || case.may_be_cut() {
            true => Ok(()),
            false => Err("bytes of it reached the server".to_owned()),
        }
    }

    fn one_request(&mut self, path: &str) -> Answer {
        self.expect_request(&Meant::get(path));
        let mut client = Client::connect(self.program.address());
        client.send(&get(path));
        client.answer()
    }

    fn expect_request(&mut self, meant: &Meant) {
        let Meant { method, target, body, .. } = meant;
        self.meant.insert((method.clone().into_bytes(), target.clone().into_bytes(), body.clone()));
    }

    /// The client's side of a case: sends it, reads an answer for each outcome, then probes the connection.
    fn converse(&mut self, case: &Case, sending: Sending, expected: &mut Vec<Meant>) -> Result<(), String> {
        let mut client = Client::connect(self.program.address());
        let tail = format!("/tail-{:04}", self.number);
        let mut bytes = table::numbered(&case.bytes, self.number);
        if sending == Sending::WithTail && !case.outcomes.contains(&Outcome::Abandoned) {
            bytes.extend_from_slice(&get(&tail));
        }
        match sending {
            Sending::Trickle => client.trickle(&bytes),
            Sending::Whole | Sending::WithTail => client.send(&bytes),
        }
        for outcome in &case.outcomes {
            if !self.take_outcome(&mut client, outcome, expected)? {
                return match client.is_closed() {
                    true => Ok(()),
                    false => Err(format!("left open, with {}", show(client.unread()))),
                };
            }
        }
        let path = match sending {
            Sending::WithTail => tail,
            Sending::Whole | Sending::Trickle => {
                let path = format!("/after-{:04}", self.number);
                client.send(&get(&path));
                path
            }
        };
        self.take_request(&mut client, &Meant::get(&path), expected)
    }

    /// Reads the answer that an outcome calls for; says whether the connection goes on.
    fn take_outcome(
        &mut self,
        client: &mut Client,
        outcome: &Outcome,
        expected: &mut Vec<Meant>,
    ) -> Result<bool, String> {
        match outcome {
            Outcome::Arrives(meant) => {
                let meant = meant.numbered(self.number);
                self.take_request(client, &meant, expected)?;
                Ok(!meant.closes)
            }
            Outcome::Refused(statuses) | Outcome::RefusedInBody(statuses) => {
                check_refusal(client.answer(), statuses).map(|()| false)
            }
            Outcome::Either(statuses, meant) => match client.answer() {
                Answer::Whole(response) if response.status == 200 => {
                    let meant = meant.numbered(self.number);
                    check_answer(Answer::Whole(response), &meant)?;
                    self.expect_request(&meant);
                    let open = !meant.closes;
                    expected.push(meant);
                    Ok(open)
                }
                answer => check_refusal(answer, statuses).map(|()| false),
            },
            Outcome::Ends(statuses) => match client.answer() {
                Answer::Closed => Ok(false),
                answer => check_refusal(answer, statuses).map(|()| false),
            },
            Outcome::Abandoned => {
                client.finish_sending();
                match client.answer() {
                    Answer::Closed => Ok(false),
                    Answer::Whole(response) if response.status >= 400 => Ok(false),
                    answer => Err(format!("for half a request the client got {}", answer.describe())),
                }
            }
        }
    }

    fn take_request(
        &mut self,
        client: &mut Client,
        meant: &Meant,
        expected: &mut Vec<Meant>,
    ) -> Result<(), String> {
        self.expect_request(meant);
        expected.push(meant.clone());
        let asked = Asked { method: meant.method.as_bytes(), upgrade: false };
        check_answer(client.answer_to(asked), meant)
    }

    /// Whether exactly the expected requests arrived, each as meant.
    fn check_arrivals(&self, before: usize, expected: &[Meant]) -> Result<(), String> {
        let arrived = self.origin.arrived(before);
        let (arrived_count, expected_count) = (arrived.len(), expected.len());
        if arrived_count != expected_count {
            let paths: Vec<String> = arrived.iter().map(|(_, request)| show(&request.target)).collect();
            return Err(format!("{arrived_count} requests arrived instead of {expected_count}: {paths:?}"));
        }
        let mut pairs = arrived.iter().zip(expected);
        pairs.try_for_each(|((_, request), meant)| check_request(request, meant))
    }

    /// Reads all that the server received from the start: only meant requests, and halves only where allowed.
    fn check_every_byte(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for connection in self.origin.connections() {
            let mut rest = &connection.received[..];
            faults
                .extend(connection.fault.map(|class| format!("the server had to refuse a request: {class}")));
            while let Verdict::Message(request) = oracle::request(rest, &Rules::behind()) {
                rest = &rest[request.consumed..];
                let Request { method, target, body, .. } = request;
                let known = (method, target, body);
                if !self.meant.contains(&known) {
                    faults.push(format!("nobody meant {} {}", show(&known.0), show(&known.1)));
                }
            }
            let text = String::from_utf8_lossy(rest);
            let allowed = |number: &usize| text.contains(&format!("{number:04} HTTP/1.1\r\n"));
            if !rest.is_empty() && !self.cut.iter().any(allowed) {
                faults.push(format!("half a request that nobody meant: {}", show(rest)));
            }
        }
        faults
    }
}

/// A refusal has one of the statuses and announces the end of the connection.
fn check_refusal(answer: Answer, statuses: &[u16]) -> Result<(), String> {
    match answer {
        Answer::Whole(response) if statuses.contains(&response.status) && !response.keep_alive => Ok(()),
        Answer::Whole(response) if statuses.contains(&response.status) => {
            Err(format!("{} without Connection: close", response.status))
        }
        answer => Err(format!("instead of one of {statuses:?} the client got {}", answer.describe())),
    }
}

/// The server's answer names what the server was asked.
fn check_answer(answer: Answer, meant: &Meant) -> Result<(), String> {
    let Answer::Whole(response) = answer else {
        return Err(format!("for {} the client got {}", meant.target, answer.describe()));
    };
    let said = format!(" {} {}\n", meant.method, meant.target);
    let right =
        response.status == 200 && (meant.method == "HEAD" || response.body.ends_with(said.as_bytes()));
    match right {
        true if response.keep_alive == meant.closes => {
            Err(format!("the answer to {} promises keep-alive: {}", meant.target, response.keep_alive))
        }
        true => Ok(()),
        false => {
            Err(format!("for {} the client got {} {}", meant.target, response.status, show(&response.body)))
        }
    }
}

/// Whether a request arrived as meant, and clean.
fn check_request(request: &Request, meant: &Meant) -> Result<(), String> {
    let fields = &request.fields;
    let fault = |what: String| Err(format!("{} arrived {what}: {fields:?}", show(&request.target)));
    if request.method != meant.method.as_bytes() || request.target != meant.target.as_bytes() {
        return fault(format!("instead of {} {}", meant.method, meant.target));
    }
    if request.body != meant.body {
        return fault(format!("with body {}", show(&request.body)));
    }
    if request.version != 1 || fields.all("host").len() != 1 {
        return fault("without HTTP/1.1 or exactly one Host".to_owned());
    }
    for &(name, value) in &meant.with {
        if fields.all(name) != [value.as_bytes()] {
            return fault(format!("without exactly one {name}: {value}"));
        }
    }
    // Never forwarded, whether a case names them or not.
    let hop_by_hop = ["keep-alive", "proxy-connection", "te", "trailer", "http2-settings"];
    for name in meant.without.iter().chain(&hop_by_hop) {
        if fields.has(name) {
            return fault(format!("with {name}"));
        }
    }
    let upgrades = meant.with.iter().any(|(name, _)| *name == "upgrade");
    if fields.has("upgrade") && !upgrades {
        return fault("with upgrade".to_owned());
    }
    if !request.trailers.0.is_empty() {
        return fault("with trailers".to_owned());
    }
    let evil = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).to_ascii_lowercase().contains("evil");
    match fields.0.iter().any(|(name, value)| evil(name) || evil(value)) {
        true => fault("with evil in its head".to_owned()),
        false => Ok(()),
    }
}
