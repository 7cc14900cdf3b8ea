//! What a seed decides: what every client sends, how, and what the servers do with each request.
//!
//! A server's part hangs on the request's name and not on its connection, so that the threads' timing cannot change it: the nth
//! time that a request reaches a server, its nth reply is played.

use std::fmt::Write as _;

/// Chance by a seed (splitmix64).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }

    /// True so many times of a hundred.
    pub(crate) fn percent(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    fn of<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.below(options.len())]
    }
}

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    Empty,
    Length,
    Chunked,
    /// Servers only.
    UntilClose,
}

/// What a client asks for with `Expect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    No,
    /// Asks, and sends the body at once.
    Eager,
    /// Asks, and sends no body before it is told to.
    Patient,
}

/// One request and its fate.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// Part of target, head and body.
    pub(crate) name: String,
    pub(crate) method: &'static str,
    pub(crate) upload: Frame,
    pub(crate) size: usize,
    pub(crate) expect: Expect,
    /// The client holds half of the body back until it has an answer.
    pub(crate) holds: bool,
    /// What the servers do the first time, the second time, …; the last goes on.
    pub(crate) replies: Vec<Reply>,
}

/// What a server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answers when it has the whole request.
    Whole(Answer),
    /// Answers when it has the head.
    Early(Answer),
    /// Closes without a byte of an answer.
    Drop { at_head: bool, reset: bool },
}

/// A server's answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) frame: Frame,
    pub(crate) size: usize,
    pub(crate) interims: Vec<u16>,
    /// Ends after so many thousandths of its bytes; `true` for a reset.
    pub(crate) cut: Option<(usize, bool)>,
    pub(crate) then: Then,
}

/// What becomes of a server's connection after a whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    /// Says `Connection: close`, and does not.
    SaysClose,
    /// Sends FIN without having said so.
    Closes,
    /// Closes when the next request arrives; `true` for a reset.
    ClosesOnNext(bool),
    /// Sends another response behind this one.
    Surplus,
}

/// What one client does.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) requests: Vec<Planned>,
    pub(crate) http10: bool,
    /// Sends everything before reading anything.
    pub(crate) pipelined: bool,
    /// Sends FIN behind the last request.
    pub(crate) half_closes: bool,
    /// Reads little at a time, from a small socket buffer.
    pub(crate) slow: bool,
    /// Resets the connection during the last request.
    pub(crate) abort: Option<Abort>,
    /// Decides where the client's bytes are cut.
    pub(crate) cuts: u64,
}

/// When a client resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abort {
    /// After so many thousandths of the request.
    Sending(usize),
    /// When it has sent all.
    Waiting,
    /// When the first bytes of an answer are there.
    Reading,
}

impl Reply {
    /// The answer, if it comes whole.
    pub(crate) fn good(&self) -> Option<&Answer> {
        match self {
            Reply::Whole(answer) | Reply::Early(answer) if answer.cut.is_none() => Some(answer),
            _ => None,
        }
    }

    /// Ends within an answer.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(self, Reply::Whole(answer) | Reply::Early(answer) if answer.cut.is_some())
    }
}

impl Planned {
    /// The nth reply.
    pub(crate) fn reply(&self, turn: usize) -> &Reply {
        &self.replies[turn.min(self.replies.len() - 1)]
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.method != "POST"
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        filled(&self.name, self.size)
    }
}

/// So many bytes that name their owner and place, so that nothing lost, doubled or foreign goes unseen.
pub(crate) fn filled(name: &str, size: usize) -> Vec<u8> {
    let mut text = String::with_capacity(size + 32);
    while text.len() < size {
        let at = text.len();
        write!(text, "[{name} {at}]").expect("memory suffices");
    }
    text.truncate(size);
    text.into_bytes()
}

/// The body of the answer on a request's nth turn.
pub(crate) fn answer_body(name: &str, turn: usize, answer: &Answer) -> Vec<u8> {
    filled(&format!("{name} answer {turn}"), answer.size)
}

/// All clients of a seed.
pub(crate) fn scripts(seed: u64, clients: usize) -> Vec<Script> {
    let mut dice = Dice::new(seed);
    (0..clients).map(|client| script(&mut dice, &format!("s{seed}c{client}"))).collect()
}

fn script(dice: &mut Dice, name: &str) -> Script {
    let http10 = dice.percent(12);
    let pipelined = !http10 && dice.percent(40);
    let mut requests: Vec<Planned> =
        (0..=dice.below(7)).map(|n| request(dice, format!("{name}n{n}"), http10, pipelined)).collect();
    // Nothing of what follows an answer that was given early to half a request may ever be taken for a request.
    if let Some(at) = requests.iter().position(|r| r.holds) {
        requests.truncate(at + 2);
    }
    let abort = dice.percent(15).then(|| match dice.below(3) {
        0 => Abort::Sending(dice.below(1000)),
        1 => Abort::Waiting,
        _ => Abort::Reading,
    });
    let tame = requests.iter().all(|r| !r.holds && r.expect != Expect::Patient);
    Script {
        abort: abort.filter(|_| tame),
        half_closes: tame && dice.percent(25),
        slow: dice.percent(15),
        cuts: dice.next(),
        requests,
        http10,
        pipelined,
    }
}

fn request(dice: &mut Dice, name: String, http10: bool, small: bool) -> Planned {
    let method = dice.of(&["GET", "GET", "GET", "POST", "POST", "PUT", "PUT", "HEAD", "DELETE"]);
    let upload = match method {
        "POST" | "PUT" if http10 => Frame::Length,
        "POST" | "PUT" => dice.of(&[Frame::Length, Frame::Chunked]),
        _ => Frame::Empty,
    };
    let size = match (upload, small) {
        (Frame::Empty, _) => 0,
        (_, true) => dice.below(2_000),
        _ => size(dice, 90_000),
    };
    let (holds, expect) = match dice.below(100) {
        0..=5 if !small && size > 200 => (true, Expect::No),
        6..=13 if !small && !http10 && size > 0 => (false, Expect::Patient),
        14..=20 if !http10 && size > 0 => (false, Expect::Eager),
        _ => (false, Expect::No),
    };
    let mut replies = vec![reply(dice, method, upload, holds, expect)];
    if !matches!(replies[0], Reply::Drop { .. }) || holds {
        replies.truncate(1);
    } else {
        replies.push(Reply::Whole(answer(dice, method)));
    }
    let holds = holds || expect == Expect::Patient && matches!(replies[0], Reply::Early(_));
    Planned { name, method, upload, size, expect, holds, replies }
}

fn reply(dice: &mut Dice, method: &'static str, upload: Frame, holds: bool, expect: Expect) -> Reply {
    if holds {
        let mut answer = answer(dice, method);
        answer.cut = None;
        answer.then = Then::Keep;
        return Reply::Early(answer);
    }
    match dice.below(100) {
        0..=5 => Reply::Drop { at_head: expect == Expect::No && dice.percent(50), reset: dice.percent(50) },
        6..=13 if upload != Frame::Empty => {
            Reply::Early(Answer { then: Then::Keep, cut: None, ..answer(dice, method) })
        }
        14..=21 => {
            let answer = answer(dice, method);
            // What ends with its connection cannot be cut by FIN.
            let reset = answer.frame == Frame::UntilClose || dice.percent(50);
            Reply::Whole(Answer { cut: Some((dice.below(1000), reset)), ..answer })
        }
        _ => Reply::Whole(answer(dice, method)),
    }
}

fn answer(dice: &mut Dice, method: &str) -> Answer {
    let (status, frame) = match dice.below(20) {
        0 if method != "HEAD" => (204, Frame::Empty),
        1 => (304, Frame::Empty),
        2..=8 => (dice.of(&[200, 404, 500]), Frame::Chunked),
        9 | 10 => (200, Frame::UntilClose),
        _ => (dice.of(&[200, 201, 503]), Frame::Length),
    };
    let then = match dice.below(20) {
        // What ends with its connection has nothing behind it.
        _ if frame == Frame::UntilClose => Then::Keep,
        0 => Then::SaysClose,
        1 => Then::Closes,
        2 => Then::ClosesOnNext(false),
        3 => Then::ClosesOnNext(true),
        4 | 5 => Then::Surplus,
        _ => Then::Keep,
    };
    let interims = if dice.percent(10) {
        (0..=dice.below(3)).map(|_| dice.of(&[102, 103])).collect()
    } else {
        Vec::new()
    };
    let size = match (frame, then) {
        (Frame::Empty, _) => 0,
        // The surplus must arrive together with the answer's end.
        (_, Then::Surplus) => dice.below(500),
        _ => size(dice, 300_000),
    };
    Answer { status, frame, size, interims, cut: None, then }
}

/// Mostly small, sometimes more than any one buffer.
fn size(dice: &mut Dice, most: usize) -> usize {
    match dice.below(20) {
        0 => 0,
        1..=14 => dice.below(1_500),
        15..=18 => dice.below(20_000),
        _ => dice.below(most),
    }
}
