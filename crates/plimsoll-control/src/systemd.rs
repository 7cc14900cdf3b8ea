//! What systemd and a service want from each other: sockets on the way in, news about the service's state on the way out.
//!
//! Follows sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3), with names and values from the environment. Without `NOTIFY_SOCKET`
//! nothing is said, without `LISTEN_FDS` nothing is taken; a service manager that does not listen stops nothing here.

use std::env;
use std::fmt::Write;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixDatagram};
use std::time::Duration;

use listenfd::ListenFd;
use plimsoll_proxy::{is_for, notice};
use rustix::net::sockopt::socket_acceptconn;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// A service manager that does not read is waited for this long.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a stop may take beyond the drain time: cutting, and the last log lines.
const STOP_MARGIN: Duration = Duration::from_secs(10);
/// A stop without a deadline; systemd wants to know one.
const PATIENT_STOP: Duration = Duration::from_secs(365 * 24 * 3600);
/// The first descriptor that is passed: SD_LISTEN_FDS_START.
const FIRST: usize = 3;

/// Serves from now on; `status` is a line for `systemctl status`.
pub fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={}", line(status)));
}

/// A reload begins; `ready` must follow, whatever comes of it. Reloading holds up the loop that proves to be alive, so it is given a
/// whole interval.
pub fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\nWATCHDOG=1"));
}

/// A stop begins that takes at most `drain`, however short `TimeoutStopSec=` is; `None` for as long as it takes.
pub fn stopping(drain: Option<Duration>) {
    let longest = drain.map_or(PATIENT_STOP, |drain| drain + STOP_MARGIN).min(PATIENT_STOP);
    let longest = longest.as_micros();
    tell(&format!("STOPPING=1\nSTATUS=finishing what is in flight\nEXTEND_TIMEOUT_USEC={longest}"));
}

/// The service is process `id` from now on. Said by the one that was it, which then keeps silent; it may just have used up half of
/// the watchdog's time, and the new one does so before it speaks.
pub fn handed_over(id: u32) {
    tell(&format!("MAINPID={id}\nWATCHDOG=1"));
}

fn tell(news: &str) {
    let Some(place) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(place.as_encoded_bytes(), news) {
        notice(&format!("cannot tell the service manager at {}: {error}", place.display()));
    }
}

fn send(place: &[u8], news: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(news.as_bytes(), &address(place)?).map(drop)
}

/// `/path`, or `@name` for an abstract address.
fn address(place: &[u8]) -> io::Result<net::SocketAddr> {
    match place {
        [b'@', name @ ..] => net::SocketAddr::from_abstract_name(name),
        [b'/', ..] => {
            use std::os::unix::ffi::OsStrExt;
            net::SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(place))
        }
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "NOTIFY_SOCKET is neither /PATH nor @NAME")),
    }
}

/// A value ends with its line.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Tells the service manager's watchdog that the loop that waits for it goes round.
///
/// It is the main loop that proves to be alive, not every worker: workers have no heartbeat.
#[derive(Debug)]
pub struct Heartbeat(Option<Interval>);

impl Heartbeat {
    /// As the environment asks for it: twice in `WATCHDOG_USEC`, if that is meant for this process. Needs a tokio runtime.
    #[must_use]
    pub fn new() -> Heartbeat {
        let is_ours = env::var_os("WATCHDOG_PID").is_none() || is_own(number("WATCHDOG_PID"));
        let every = number("WATCHDOG_USEC").filter(|_| is_ours).map(|limit| Duration::from_micros(limit / 2));
        Heartbeat(every.filter(|every| !every.is_zero()).map(|every| {
            let mut beats = interval_at(Instant::now() + every, every);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beats
        }))
    }

    /// None at all.
    #[must_use]
    pub fn never() -> Heartbeat {
        Heartbeat(None)
    }

    /// Waits for the next beat, and gives it; for ever if nobody asks for any. May be dropped at any time.
    pub async fn next(&mut self) {
        match &mut self.0 {
            Some(beats) => {
                beats.tick().await;
                tell("WATCHDOG=1");
            }
            None => std::future::pending().await,
        }
    }
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat::new()
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

fn is_own(id: Option<u64>) -> bool {
    id == Some(u64::from(std::process::id()))
}

/// The listening sockets that were passed by socket activation, with their names (`FileDescriptorName=`). To be called once, before
/// there are other threads: it takes `LISTEN_FDS` and `LISTEN_PID` out of the environment.
///
/// # Errors
/// One of them is not a listening TCP socket.
pub fn inherited() -> io::Result<Vec<(Option<String>, TcpListener)>> {
    if !is_own(number("LISTEN_PID")) {
        return Ok(Vec::new());
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let count = passed.len();
    let mut take = |at| {
        let name = names.next().filter(|name| !matches!(*name, "" | "unknown")).map(str::to_owned);
        match take(&mut passed, at) {
            Ok(socket) => Ok((name, socket)),
            Err(error) => Err(io::Error::other(format!(
                "cannot use the socket{} passed as descriptor {}: {error}; only listening TCP sockets can be passed",
                shown(name.as_ref()),
                FIRST + at
            ))),
        }
    };
    (0..count).map(&mut take).collect()
}

fn take(passed: &mut ListenFd, at: usize) -> io::Result<TcpListener> {
    let socket = passed.take_tcp_listener(at)?.ok_or(io::ErrorKind::NotFound)?;
    if !socket_acceptconn(&socket)? {
        return Err(io::Error::other("it does not listen (Accept=yes passes clients, one to a process)"));
    }
    Ok(socket)
}

/// A name to be put behind a noun.
fn shown(name: Option<&String>) -> String {
    name.map_or_else(String::new, |name| format!(" {name:?}"))
}

/// The sockets, if each is for one of the addresses in `binds`.
///
/// # Errors
/// Some are for none: clients would wait there for ever.
pub fn wanted(
    passed: Vec<(Option<String>, TcpListener)>,
    binds: &[SocketAddr],
) -> io::Result<Vec<TcpListener>> {
    let mut strays = String::new();
    for (name, socket) in &passed {
        if !binds.iter().any(|&bind| is_for(socket, bind)) {
            let (name, place) = (shown(name.as_ref()), socket.local_addr()?);
            let _ = write!(strays, "; no [[listen]] has the bind of the socket{name} passed for {place}");
        }
    }
    if strays.is_empty() {
        return Ok(passed.into_iter().map(|(_, socket)| socket).collect());
    }
    let hint = "; add one, or take the ListenStream= out of the socket unit";
    Err(io::Error::other(format!("{}{hint}", strays.trim_start_matches("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn news_reach_a_path_and_an_abstract_address() {
        let name = format!("plimsoll-notify-{}", std::process::id());
        let abstracted = net::SocketAddr::from_abstract_name(&name).unwrap();
        let path = env::temp_dir().join(&name);
        let sockets = [UnixDatagram::bind_addr(&abstracted).unwrap(), UnixDatagram::bind(&path).unwrap()];
        for (socket, place) in sockets.iter().zip([format!("@{name}"), path.display().to_string()]) {
            send(place.as_bytes(), "READY=1").unwrap();
            assert_eq!(received(socket), "READY=1");
        }
        std::fs::remove_file(path).unwrap();
        assert!(send(b"vsock:2:1", "READY=1").is_err());
        assert!(send(b"", "READY=1").is_err());
    }

    #[test]
    fn a_status_stays_in_its_line() {
        assert_eq!(line("two\nREADY=1"), "two READY=1");
    }

    #[test]
    fn a_socket_for_no_listener_is_named() {
        let pass = |name: &str| {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            (socket.local_addr().unwrap(), (Some(name.to_owned()), socket))
        };
        let ((web, a), (other, b)) = (pass("web"), pass("other"));
        let error = wanted(vec![a, b], &[web]).unwrap_err().to_string();
        assert!(error.contains(&format!("\"other\" passed for {other}")), "{error}");
        assert!(!error.contains("\"web\""), "{error}");
        let (web, a) = pass("web");
        assert_eq!(wanted(vec![a], &[other, web]).unwrap().len(), 1);
    }

    #[test]
    fn without_an_environment_nothing_happens() {
        // The test runner is not a service, so its environment has none of the variables.
        assert!(inherited().unwrap().is_empty());
        ready("nobody hears it");
    }
}
