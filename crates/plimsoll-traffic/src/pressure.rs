//! Overload of ourselves: how short of memory, connections or time this process is, and what follows.
//!
//! In go readings and the time, out comes a level that all workers look at. Under pressure new work is refused first, what matters least before the
//! rest, and admitted work goes on. It rises at once and falls a step a second, so that it does not flap. Nothing here is measured.

use crate::sync::Mutex;
use crate::sync::atomic::AtomicU8;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use std::sync::PoisonError;
use std::time::Duration;

use plimsoll_config::model::Class;

use crate::time::Millis;

/// How long readings must be lower before the level falls by one, in milliseconds.
const CALM: u64 = 1_000;
/// A level is left only once its reading is this much below its threshold.
const MARGIN: f64 = 0.02;
/// Of the memory: above each, the level of its place, from `NoKeepAlive` on.
const MEMORY: [f64; 4] = [0.90, 0.93, 0.95, 0.98];
/// Of the connections: from here on none is kept alive, and those that have idled longest are closed.
const CONNECTIONS: f64 = 0.90;
/// How late a worker's event loop is, at the least, in two readings in a row: then `Low`, then `Normal`. In one it may be a machine that stood still for a
/// while, such as one that was moved to another host, and is punctual again: whoever waits for it gains nothing by a refusal.
const LAG: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(1)];

/// What is given up; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    Calm,
    /// Keeping connections alive.
    NoKeepAlive,
    /// New requests of the low class.
    Low,
    /// Those of the normal class.
    Normal,
    /// All new requests, and accepting.
    All,
}

/// What is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// Memory.
    Memory,
    /// Connections, which is descriptors.
    Connections,
    /// Time of the event loops.
    Time,
}

impl Short {
    const ALL: [Short; 3] = [Short::Memory, Short::Connections, Short::Time];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Short::Memory => "memory",
            Short::Connections => "connections",
            Short::Time => "time",
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// Part of the memory that is in use; `None` where there is no limit to compare with.
    pub memory: Option<f64>,
    /// Part of the connections that may be open.
    pub connections: f64,
    /// By how much the latest event loop was late, at the least, since the last reading.
    pub lag: Duration,
}

/// The level of a process.
#[derive(Debug)]
pub struct Pressure {
    level: AtomicU8,
    /// What the level is for: its place in `Short::ALL`, or more.
    short: AtomicU8,
    past: Mutex<Past>,
    refused: AtomicU64,
}

/// What a judgement goes by besides its reading.
#[derive(Debug, Default)]
struct Past {
    /// Since when readings have asked for less than there is.
    lower_since: Option<Millis>,
    /// Of the reading before.
    lag: Duration,
}

impl Default for Pressure {
    fn default() -> Pressure {
        Pressure {
            level: AtomicU8::new(0),
            short: AtomicU8::new(u8::MAX),
            past: Mutex::default(),
            refused: AtomicU64::new(0),
        }
    }
}

impl Pressure {
    /// The level of the moment.
    #[inline]
    pub fn level(&self) -> Level {
        // A fact by itself.
        level(self.level.load(Relaxed))
    }

    /// What the level is for; nothing while it only falls, whatever a lower one would be for.
    pub fn short(&self) -> Option<Short> {
        // A fact by itself too: with a level of another reading it is old by a moment.
        Short::ALL.get(usize::from(self.short.load(Relaxed))).copied()
    }

    /// Whether a new request of a class is to be refused. Counts it.
    pub fn refuses(&self, class: Class) -> bool {
        let refuses = match self.level() {
            Level::Calm | Level::NoKeepAlive => false,
            Level::Low => class == Class::Low,
            Level::Normal => class <= Class::Normal,
            Level::All => true,
        };
        if refuses {
            self.refused.fetch_add(1, Relaxed);
        }
        refuses
    }

    /// Requests refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Judges a reading; gives the new level and what is short, if it has changed. To be called by one.
    pub fn judge(&self, reading: &Reading, now: Millis) -> Option<(Level, Option<Short>)> {
        let before = self.level();
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let lasting = reading.lag.min(std::mem::replace(&mut past.lag, reading.lag));
        let (wanted, short) = wanted(&Reading { lag: lasting, ..*reading }, before);
        let short = short.filter(|_| wanted >= before);
        let next = if wanted >= before {
            past.lower_since = None;
            wanted
        } else if past.lower_since.get_or_insert(now).0 + CALM <= now.0 {
            past.lower_since = Some(now);
            level(before as u8 - 1)
        } else {
            before
        };
        self.level.store(next as u8, Relaxed);
        self.short.store(short.map_or(u8::MAX, |short| short as u8), Relaxed);
        (next != before).then_some((next, short))
    }
}

/// Of `held` connections, of `most` that may be open, those that are too many: without them connections are short no more.
pub fn too_many(held: u32, most: u32) -> u32 {
    let at = |part: f64| (f64::from(most) * part).ceil() as u32;
    if held < at(CONNECTIONS) { 0 } else { held - at(CONNECTIONS - MARGIN).saturating_sub(1) }
}

fn level(number: u8) -> Level {
    [Level::Calm, Level::NoKeepAlive, Level::Low, Level::Normal, Level::All][usize::from(number.min(4))]
}

/// The level that a reading asks for, and what is shortest.
fn wanted(reading: &Reading, before: Level) -> (Level, Option<Short>) {
    let above = |value: f64, threshold: f64, at: Level| {
        let margin = if at <= before { MARGIN } else { 0.0 };
        value >= threshold - margin
    };
    let of_memory = |memory: f64| {
        let reached = |n: &usize| above(memory, MEMORY[*n], level(*n as u8 + 1));
        (0..MEMORY.len()).rev().find(reached).map_or(Level::Calm, |n| level(n as u8 + 1))
    };
    let memory = reading.memory.map_or(Level::Calm, of_memory);
    let connections = match above(reading.connections, CONNECTIONS, Level::NoKeepAlive) {
        true => Level::NoKeepAlive,
        false => Level::Calm,
    };
    let time = match reading.lag {
        lag if lag >= LAG[1] => Level::Normal,
        lag if lag >= LAG[0] => Level::Low,
        _ => Level::Calm,
    };
    let all = [(memory, Short::Memory), (time, Short::Time), (connections, Short::Connections)];
    let worst = all.into_iter().rev().max_by_key(|(level, _)| *level);
    worst.filter(|(level, _)| *level > Level::Calm).map_or((Level::Calm, None), |(l, s)| (l, Some(s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(memory: f64) -> Reading {
        Reading { memory: Some(memory), ..Reading::default() }
    }

    #[test]
    fn rises_at_once_and_falls_a_step_a_second() {
        let pressure = Pressure::default();
        let judge = |reading, now| {
            pressure.judge(&reading, Millis(now));
            pressure.level()
        };
        assert_eq!(judge(memory(0.5), 0), Level::Calm);
        assert_eq!(judge(memory(0.99), 500), Level::All);
        assert_eq!([judge(memory(0.5), 1_000), judge(memory(0.5), 1_900)], [Level::All; 2]);
        assert_eq!(judge(memory(0.5), 2_000), Level::Normal);
        assert_eq!([judge(memory(0.5), 2_999), judge(memory(0.5), 3_000)], [Level::Normal, Level::Low]);
        assert_eq!(judge(memory(0.96), 3_100), Level::Normal);
        assert_eq!(
            [judge(memory(0.0), 3_500), judge(memory(0.0), 4_499)],
            [Level::Normal; 2],
            "counted anew"
        );
    }

    #[test]
    fn without_those_that_are_too_many_connections_are_short_no_more() {
        for most in 1..500 {
            for held in 0..=most {
                let part = |held: u32| f64::from(held) / f64::from(most);
                let reading = |held| Reading { connections: part(held), ..Reading::default() };
                let (is_short, _) = wanted(&reading(held), Level::Calm);
                let many = too_many(held, most);
                assert_eq!(many > 0, is_short > Level::Calm, "{held} of {most}");
                let (after, _) = wanted(&reading(held - many), Level::NoKeepAlive);
                assert!(many == 0 || after == Level::Calm, "{held} of {most} without {many}");
                let (with_one_more, _) = wanted(&reading(held - many + 1), Level::NoKeepAlive);
                assert!(
                    many == 0 || with_one_more > Level::Calm,
                    "{held} of {most}: {many} are more than need be"
                );
            }
        }
    }

    #[test]
    fn a_reading_that_wavers_at_a_threshold_does_not_flap() {
        let pressure = Pressure::default();
        let mut changes = 0;
        for step in 0..100 {
            let value = if step % 2 == 0 { 0.955 } else { 0.945 };
            changes += usize::from(pressure.judge(&memory(value), Millis(step * 2_000)).is_some());
        }
        assert_eq!((changes, pressure.level()), (1, Level::Normal));
    }

    #[test]
    fn classes_are_refused_in_order() {
        let refused = |value: f64| {
            let pressure = Pressure::default();
            pressure.judge(&memory(value), Millis(0));
            [Class::High, Class::Normal, Class::Low].map(|class| pressure.refuses(class))
        };
        assert_eq!(refused(0.91), [false, false, false]);
        assert_eq!(refused(0.94), [false, false, true]);
        assert_eq!(refused(0.96), [false, true, true]);
        assert_eq!(refused(0.98), [true, true, true]);
    }

    fn lag(millis: u64) -> Reading {
        Reading { lag: Duration::from_millis(millis), ..Reading::default() }
    }

    #[test]
    fn lateness_counts_in_two_readings_in_a_row() {
        let pressure = Pressure::default();
        let judge = |millis, now| {
            pressure.judge(&lag(millis), Millis(now));
            pressure.level()
        };
        assert_eq!([judge(5_000, 0), judge(0, 500), judge(5_000, 1_000), judge(20, 1_500)], [Level::Calm; 4]);
        assert_eq!(
            [judge(700, 2_000), judge(5_000, 2_500)],
            [Level::Calm, Level::Low],
            "the lesser of the two"
        );
        assert_eq!(judge(1_000, 3_000), Level::Normal);
    }

    #[test]
    fn what_is_short_is_told_as_long_as_it_is() {
        let pressure = Pressure::default();
        assert_eq!(pressure.short(), None);
        pressure.judge(&memory(0.99), Millis(0));
        assert_eq!(pressure.short(), Some(Short::Memory));
        pressure.judge(&memory(0.1), Millis(500));
        assert_eq!((pressure.level(), pressure.short()), (Level::All, None), "it falls");
        let full = Reading { connections: 0.91, ..memory(0.5) };
        assert_eq!(pressure.judge(&full, Millis(1_000)), None);
        assert_eq!(
            (pressure.level(), pressure.short()),
            (Level::All, None),
            "connections are not what this is for"
        );
        let fallen = [1_500, 2_500, 3_500].map(|now| pressure.judge(&full, Millis(now)));
        assert_eq!(fallen, [Level::Normal, Level::Low, Level::NoKeepAlive].map(|level| Some((level, None))));
        pressure.judge(&full, Millis(4_000));
        assert_eq!((pressure.level(), pressure.short()), (Level::NoKeepAlive, Some(Short::Connections)));
        pressure.judge(&lag(900), Millis(4_500));
        pressure.judge(&lag(900), Millis(5_000));
        assert_eq!(pressure.short(), Some(Short::Time));
        assert_eq!(Short::ALL.map(|short| short as usize), [0, 1, 2]);
    }

    #[test]
    fn what_is_short_is_named() {
        let judged = |reading| {
            let pressure = Pressure::default();
            let first = pressure.judge(&reading, Millis(0));
            first.or_else(|| pressure.judge(&reading, Millis(500)))
        };
        assert_eq!(judged(lag(400)), None);
        assert_eq!(judged(lag(600)), Some((Level::Low, Some(Short::Time))));
        assert_eq!(
            judged(lag(60_000)),
            Some((Level::Normal, Some(Short::Time))),
            "the high class always passes"
        );
        let full = Reading { connections: 1.0, ..Reading::default() };
        assert_eq!(judged(full), Some((Level::NoKeepAlive, Some(Short::Connections))));
        assert_eq!(
            judged(Reading { connections: 1.0, ..memory(0.97) }),
            Some((Level::Normal, Some(Short::Memory)))
        );
        assert_eq!(judged(Reading::default()), None);
    }
}
