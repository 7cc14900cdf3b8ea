//! Two chains solved by numbers: two choices among servers of two speeds, and the least loaded with a server that fails at once.
//!
//! Neither simulates anything: rates go in, a fixed point comes out. Time is in mean service times of a server of speed 1.

/// States of a server that are looked at; at the loads asked for the last ones are empty.
const STATES: usize = 18;

/// Two groups of `each` servers, of which the first has `speed` times the speed and the weight of the second, under two choices drawn by
/// weight without replacement, at `load` of what all can do: the part of the requests that goes to the first group.
///
/// The mean field of both groups, with one unknown: how often the first group wins a tie. Ties go to who had fewer turns for its weight, where being
/// passed over for one's load is a turn too; so they come out such that both groups have as many turns for their weight.
pub(crate) fn share_of_fast(each: usize, speed: u32, load: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..20 {
        let middle = f64::midpoint(low, high);
        let field = Field::new(each, speed, load, middle);
        if field.fast_has_fewer_turns() { low = middle } else { high = middle }
    }
    Field::new(each, speed, load, low).share_of_fast()
}

struct Field {
    /// The part of each group's servers that has so many requests.
    fast: [f64; STATES],
    slow: [f64; STATES],
    speed: usize,
    each: f64,
    /// Chances that a draw is of two fast ones, of one of each, of two slow ones.
    pairs: [f64; 3],
    ties: f64,
}

/// The part that has so many or more.
fn tail(of: &[f64; STATES], from: usize) -> f64 {
    of[from.min(STATES)..].iter().sum()
}

impl Field {
    fn new(each: usize, speed: u32, load: f64, ties: f64) -> Field {
        let (n, w) = (each as f64, f64::from(speed));
        let all = n * (w + 1.0);
        let pair = |a: f64, b: f64| a * b / all * (1.0 / (all - a) + 1.0 / (all - b));
        let pairs =
            [pair(w, w) * n * (n - 1.0) / 2.0, pair(w, 1.0) * n * n, pair(1.0, 1.0) * n * (n - 1.0) / 2.0];
        let mut idle = [0.0; STATES];
        idle[0] = 1.0;
        let mut field = Field { fast: idle, slow: idle, speed: speed as usize, each: n, pairs, ties };
        let arrivals = load * all;
        // Euler's method until nothing moves.
        for _ in 0..4_000 {
            let (fast, slow) = (field.arrivals_to_fast(arrivals), field.arrivals_to_slow(arrivals));
            flow(&mut field.fast, &fast, w);
            flow(&mut field.slow, &slow, 1.0);
        }
        field
    }

    /// Requests in a unit that come to one fast server, by how many it has.
    fn arrivals_to_fast(&self, all: f64) -> [f64; STATES] {
        let [both, mixed, _] = self.pairs.map(|pair| pair * all / self.each);
        std::array::from_fn(|k| {
            let among = 2.0 * both * (tail(&self.fast, k + 1) + self.fast[k] / 2.0);
            let slow = k / self.speed;
            let tie = if k.is_multiple_of(self.speed) { self.ties * self.slow[slow] } else { 0.0 };
            among + mixed * (tail(&self.slow, slow + 1) + tie)
        })
    }

    fn arrivals_to_slow(&self, all: f64) -> [f64; STATES] {
        let [_, mixed, both] = self.pairs.map(|pair| pair * all / self.each);
        std::array::from_fn(|k| {
            let among = 2.0 * both * (tail(&self.slow, k + 1) + self.slow[k] / 2.0);
            let fast = k * self.speed;
            let tie = self.fast.get(fast).map_or(0.0, |part| (1.0 - self.ties) * part);
            among + mixed * (tail(&self.fast, fast + 1) + tie)
        })
    }

    fn share_of_fast(&self) -> f64 {
        let rates = self.arrivals_to_fast(1.0);
        self.each * rates.iter().zip(&self.fast).map(|(rate, part)| rate * part).sum::<f64>()
    }

    /// Of two drawn, one of each, the chances that the fast one has less for its weight, and as much.
    fn less_and_as_much(&self) -> (f64, f64) {
        let less = (0..STATES).map(|k| self.fast[k] * tail(&self.slow, k / self.speed + 1)).sum();
        let ties = (0..STATES / self.speed).map(|k| self.fast[k * self.speed] * self.slow[k]).sum();
        (less, ties)
    }

    /// Turns are picks and draws that were lost for one's load.
    fn fast_has_fewer_turns(&self) -> bool {
        let (less, ties) = self.less_and_as_much();
        let unequal = |of: &[f64; STATES]| 1.0 - of.iter().map(|part| part * part).sum::<f64>();
        let share = self.share_of_fast();
        let [fast, mixed, slow] = self.pairs;
        let turns_of_fast = share + mixed * (1.0 - less - ties) + fast * unequal(&self.fast);
        let turns_of_slow = 1.0 - share + mixed * less + slow * unequal(&self.slow);
        turns_of_fast / (self.speed as f64) < turns_of_slow
    }
}

/// A small step of time: arrivals move servers up, services down.
fn flow(parts: &mut [f64; STATES], arrivals: &[f64; STATES], speed: f64) {
    const STEP: f64 = 0.02;
    let before = *parts;
    for k in 0..STATES - 1 {
        let up = STEP * (arrivals[k] * before[k] - speed * before[k + 1]);
        parts[k] -= up;
        parts[k + 1] += up;
    }
}

/// The part of the requests that a server gets that fails at once, beside `others` that are not so busy that all are ever busy together, when the
/// least loaded is chosen, of equals who had fewest turns, and nobody is owed the turns that its load cost it.
///
/// Then idle servers take turns in a round: who was served waits until the round comes back to it, and who is busy then is served as soon as it is
/// idle. A round of length *d* brings the failing one a request; another one a request in every max(*s*, *d*), *s* being its service time, which is
/// exponential: in *d + e^-d*. All together are what arrives.
pub(crate) fn share_of_hole(others: f64, arrivals: f64) -> f64 {
    let (mut low, mut high) = (0.01, 100.0);
    for _ in 0..60 {
        let round = f64::midpoint(low, high);
        let served = others / (round + f64::exp(-round)) + 1.0 / round;
        if served > arrivals { low = round } else { high = round }
    }
    1.0 / (low * arrivals)
}
