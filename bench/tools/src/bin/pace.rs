//! `pace ADDRESS REQUEST CONNECTIONS RATE SECONDS`: requests at a rate of their own, whether or not answers come (an open loop).
//!
//! REQUEST is a file with one whole request. Requests arrive as a Poisson process, so in clumps, as those of many users do. A request for
//! which no connection is free waits for one, and its latency counts from when it arrived, so a proxy that stalls cannot hide it
//! ("coordinated omission"). Prints one line of JSON; the first half second is not counted.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use plimsoll_bench_tools::{Interest, Poller, content_length, fail, head_end};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

const WARM_UP: Duration = Duration::from_millis(500);
/// After the last request was sent.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

struct Connection {
    stream: TcpStream,
    arrived: Instant,
    head: Vec<u8>,
    /// Bytes of the body still to come, once the head is there.
    body: Option<usize>,
}

/// Exponential gaps from xorshift64*: the same sequence for every proxy.
struct Gaps {
    state: u64,
    mean: f64,
}

impl Gaps {
    fn next(&mut self) -> Duration {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let uniform = (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(-(1.0 - uniform).ln() * self.mean)
    }
}

struct Load {
    request: Vec<u8>,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    waiting: VecDeque<Instant>,
    latencies: Vec<u32>, // microseconds times ten
    counted_from: Instant,
    sent: u64,
    waited: u64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, request, connections, rate, seconds] = args.as_slice() else {
        fail("usage: pace ADDRESS REQUEST CONNECTIONS RATE SECONDS");
    };
    let bad = |what: &str| -> ! { fail(&format!("pace: {what} is not right")) };
    let address: SocketAddr = address.parse().unwrap_or_else(|_| bad("ADDRESS"));
    let request = std::fs::read(request).unwrap_or_else(|_| bad("REQUEST"));
    let connections: usize = connections.parse().unwrap_or_else(|_| bad("CONNECTIONS"));
    let rate: f64 = rate.parse().unwrap_or_else(|_| bad("RATE"));
    let seconds: f64 = seconds.parse().unwrap_or_else(|_| bad("SECONDS"));
    if connections == 0 || rate.is_nan() || rate < 1.0 || !(0.1..=600.0).contains(&seconds) {
        bad("CONNECTIONS, RATE or SECONDS");
    }
    if let Err(error) = run(address, request, connections, rate, seconds) {
        fail(&format!("pace: {error}"));
    }
}

fn run(
    address: SocketAddr,
    request: Vec<u8>,
    connections: usize,
    rate: f64,
    seconds: f64,
) -> std::io::Result<()> {
    let (mut poller, mut ready) = (Poller::new()?, Vec::new());
    let start = Instant::now();
    let mut load = Load {
        request,
        connections: (0..connections).map(|_| connect(address, start)).collect::<Result<_, _>>()?,
        idle: (0..connections).collect(),
        waiting: VecDeque::new(),
        latencies: Vec::with_capacity((rate * seconds * 1.2) as usize),
        counted_from: start + WARM_UP,
        sent: 0,
        waited: 0,
    };
    for (connection, token) in load.connections.iter().zip(0..) {
        poller.add(&connection.stream, token, Interest::Read)?;
    }
    let clock = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    poller.add(&clock, connections as u64, Interest::Read)?;
    let mut gaps = Gaps { state: 0x9E37_79B9_7F4A_7C15, mean: 1.0 / rate };
    let start = Instant::now();
    let end = start + WARM_UP + Duration::from_secs_f64(seconds);
    load.counted_from = start + WARM_UP;
    let mut next = start + gaps.next();
    loop {
        let now = Instant::now();
        while next <= now.min(end) {
            load.arrive(next)?;
            next += gaps.next();
        }
        let over = next > end;
        if over && (load.idle.len() == connections || now > end + LAST_ANSWERS) {
            break;
        }
        let wake = if over { end + LAST_ANSWERS } else { next };
        arm(&clock, wake.saturating_duration_since(now).max(Duration::from_nanos(1)))?;
        poller.wait(&mut ready)?;
        for event in &ready {
            if (event.token as usize) < connections {
                load.receive(event.token as usize)?;
            }
        }
    }
    load.report(seconds);
    Ok(())
}

fn connect(address: SocketAddr, now: Instant) -> std::io::Result<Connection> {
    let stream = TcpStream::connect(address)?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(Connection { stream, arrived: now, head: Vec::new(), body: None })
}

/// Setting it anew also takes back that it went off.
fn arm(clock: impl std::os::fd::AsFd, after: Duration) -> std::io::Result<()> {
    let it_value = Timespec { tv_sec: after.as_secs() as i64, tv_nsec: after.subsec_nanos().into() };
    let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(clock, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
    Ok(())
}

impl Load {
    fn arrive(&mut self, at: Instant) -> std::io::Result<()> {
        match self.idle.pop_front() {
            Some(number) => self.send(number, at),
            None => {
                self.waited += 1;
                self.waiting.push_back(at);
                Ok(())
            }
        }
    }

    fn send(&mut self, number: usize, at: Instant) -> std::io::Result<()> {
        let connection = &mut self.connections[number];
        connection.arrived = at;
        self.sent += 1;
        // Requests are small: a socket that has no room for one is broken.
        connection.stream.write_all(&self.request)
    }

    fn receive(&mut self, number: usize) -> std::io::Result<()> {
        let mut buffer = [0; 16 << 10];
        let connection = &mut self.connections[number];
        let count = match connection.stream.read(&mut buffer) {
            Ok(0) => return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "a connection was closed")),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        if !connection.take(&buffer[..count])? {
            return Ok(());
        }
        let arrived = connection.arrived;
        if arrived >= self.counted_from {
            let tenths = arrived.elapsed().as_nanos() / 100;
            self.latencies.push(u32::try_from(tenths).unwrap_or(u32::MAX));
        }
        match self.waiting.pop_front() {
            Some(at) => self.send(number, at),
            None => {
                self.idle.push_back(number);
                Ok(())
            }
        }
    }

    fn report(mut self, seconds: f64) {
        self.latencies.sort_unstable();
        let at = |share: f64| {
            let last = self.latencies.len().saturating_sub(1);
            let tenths = self.latencies.get((last as f64 * share) as usize).copied().unwrap_or(0);
            f64::from(tenths) / 10.0
        };
        let unanswered = self.connections.len() - self.idle.len() + self.waiting.len();
        println!(
            "{{\"sent\":{},\"counted\":{},\"waited\":{},\"unanswered\":{unanswered},\"rps\":{:.0},\
             \"p50_us\":{},\"p99_us\":{},\"p999_us\":{}}}",
            self.sent,
            self.latencies.len(),
            self.waited,
            self.latencies.len() as f64 / seconds,
            at(0.5),
            at(0.99),
            at(0.999),
        );
    }
}

impl Connection {
    /// Whether the answer is whole. Only 200 is one.
    fn take(&mut self, bytes: &[u8]) -> std::io::Result<bool> {
        let left = match self.body {
            Some(left) => left.checked_sub(bytes.len()),
            None => {
                self.head.extend_from_slice(bytes);
                let Some(end) = head_end(&self.head) else { return Ok(false) };
                let length =
                    content_length(&self.head[..end]).filter(|_| self.head.starts_with(b"HTTP/1.1 200"));
                let left = length.and_then(|length| length.checked_sub(self.head.len() - end));
                self.head.clear();
                left
            }
        };
        let left = left
            .ok_or_else(|| std::io::Error::new(ErrorKind::InvalidData, "not the answer that was expected"))?;
        self.body = (left > 0).then_some(left);
        Ok(left == 0)
    }
}
