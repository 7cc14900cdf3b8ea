//! The formulas that the simulator is held against; time is in mean service times, `l` is the load of a server (0 to 1).
//!
//! Sources: Kleinrock, Queueing Systems I (M/M/1, M/G/1, Erlang's two, G/M/1); Mitzenmacher 2001 and Vvedenskaya et al. 1996 (two
//! choices); Lu et al. 2011 (join-idle-queue).

/// Mean sojourn of M/M/1.
pub(crate) fn mm1(l: f64) -> f64 {
    1.0 / (1.0 - l)
}

/// Mean sojourn of M/G/1 by Pollaczek and Khinchine; `second` is the second moment of the service time.
pub(crate) fn mg1(l: f64, second: f64) -> f64 {
    1.0 + l * second / (2.0 * (1.0 - l))
}

/// Erlang B: the part of arrivals that find all `c` servers busy and go away.
pub(crate) fn erlang_b(c: u32, offered: f64) -> f64 {
    (1..=c).fold(1.0, |b, k| offered * b / (f64::from(k) + offered * b))
}

/// Mean sojourn of M/M/c by Erlang C.
pub(crate) fn mmc(c: u32, l: f64) -> f64 {
    let b = erlang_b(c, l * f64::from(c));
    1.0 + b / (1.0 - l * (1.0 - b)) / (f64::from(c) * (1.0 - l))
}

/// Mean sojourn of E_n/M/1: what a server sees of a Poisson stream dealt to `n` in turn.
pub(crate) fn round_robin(n: u32, l: f64) -> f64 {
    let rate = f64::from(n) * l;
    let sigma = (0..100_000).fold(l, |s, _| (rate / (rate + 1.0 - s)).powi(n as i32));
    1.0 / (1.0 - sigma)
}

/// The part of servers with `i` or more requests when the shorter of `d` random queues is chosen and there are endlessly many.
pub(crate) fn mean_field_tail(l: f64, d: u32, i: u32) -> f64 {
    let exponent = if d == 1 { f64::from(i) } else { (f64::from(d).powi(i as i32) - 1.0) / f64::from(d - 1) };
    l.powf(exponent)
}

/// Mean sojourn of the same.
pub(crate) fn mean_field(l: f64, d: u32) -> f64 {
    (1..2_000).map(|i| mean_field_tail(l, d, i)).sum::<f64>() / l
}

/// Mean sojourn of join-idle-queue with `r` servers to a dispatcher.
pub(crate) fn join_idle(l: f64, r: f64) -> f64 {
    // rho / (1 - rho) = r (1 - l) gives the part of dispatchers that know an idle server.
    let known = r * (1.0 - l) / (1.0 + r * (1.0 - l));
    1.0 / (1.0 - l * (1.0 - known))
}
