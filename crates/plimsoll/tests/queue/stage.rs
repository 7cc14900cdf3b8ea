//! One server with room for one request, which a held one takes, and whoever waits behind it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use socket2::{Domain, SockAddr, Socket, Type};

use super::rig::{self, ok};
use super::support::{Client, Gate, Origin, Plimsoll, Step, get};

/// The program, its server, and the request that holds it.
pub(crate) struct Stage {
    pub(crate) origin: Origin,
    pub(crate) program: Plimsoll,
    gate: Gate,
    _held: Client,
    top: String,
    rest: String,
}

impl Stage {
    /// `keys` are further ones of the backend.
    pub(crate) fn new(keys: &str) -> Stage {
        Stage::with(keys, "")
    }

    /// With further tables.
    pub(crate) fn with(keys: &str, rest: &str) -> Stage {
        Stage::with_top("", keys, rest)
    }

    /// And further keys of the top level.
    pub(crate) fn with_top(top: &str, keys: &str, rest: &str) -> Stage {
        Stage::made(top, keys, rest, None)
    }

    /// With another server that is asked first.
    pub(crate) fn with_server(keys: &str, other: SocketAddr) -> Stage {
        Stage::made("", keys, "", Some(other))
    }

    fn made(top: &str, keys: &str, rest: &str, other: Option<SocketAddr>) -> Stage {
        let gate = Gate::default();
        let script = vec![Step::Read, Step::Wait(gate.clone()), Step::Send(ok("held")), Step::Serve];
        let origin = Origin::scripted(vec![script]);
        let program = Plimsoll::start(&file(top, keys, rest, (origin.address(), 1), other));
        let mut held = Client::connect(program.address());
        held.send(&get("/held"));
        origin.wait_until("the request that is held", |all| all.first().is_some_and(|c| c.steps == 1));
        Stage { origin, program, gate, _held: held, top: top.to_owned(), rest: rest.to_owned() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.program.address()
    }

    /// Lets the request that is held go on.
    pub(crate) fn open(&self) {
        self.gate.open();
    }

    /// Sends a request and returns once it waits.
    pub(crate) fn wait(&self, request: &[u8]) -> Client {
        self.wait_as(Client::connect(self.address()), request)
    }

    /// The same on this connection.
    pub(crate) fn wait_as(&self, mut client: Client, request: &[u8]) -> Client {
        let before = self.waiting();
        client.send(request);
        rig::until("it waits", || self.waiting() > before);
        client
    }

    /// The same on a connection that the test can do anything with.
    pub(crate) fn leaver(&self, path: &str) -> TcpStream {
        let before = self.waiting();
        let mut stream = TcpStream::connect(self.address()).expect("it listens");
        stream.write_all(&get(path)).expect("a request fits");
        rig::until("it waits", || self.waiting() > before);
        stream
    }

    fn waiting(&self) -> u64 {
        self.metric("plimsoll_backend_queue_length")
    }

    /// The sum of the samples that begin so; 0 of none.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let lines = self.program.stderr_lines();
        let admin = lines.iter().find_map(|line| line.strip_prefix("plimsoll: admin on "));
        let question = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let page = rig::ask(admin.expect("it has one").parse().expect("an address"), question).whole();
        assert_eq!(page.status, 200);
        let samples = rig::text(&page);
        let found = samples.lines().filter(|line| line.starts_with(name));
        found.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Loads a configuration with these keys, and so much room on the server.
    pub(crate) fn reload(&self, keys: &str, room: u32) {
        let lines = self.program.stderr_lines().len();
        self.program.configure(&file(&self.top, keys, &self.rest, (self.origin.address(), room), None));
        self.program.signal(Signal::HUP);
        self.program.wait_for_line(lines, |line| line.contains("reloaded"));
    }
}

fn file(
    top: &str,
    keys: &str,
    rest: &str,
    (address, room): (SocketAddr, u32),
    other: Option<SocketAddr>,
) -> String {
    let other = other.map_or(String::new(), |other| format!("\"{other}\", "));
    format!(
        "workers = 1\n{top}\n[[listen]]\nbind = \"127.0.0.1:0\"\nto = \"shop\"\n[admin]\nbind = \"127.0.0.1:0\"\n\
         [backend.shop]\nbalance = \"first\"\nslow_start = \"0s\"\n{keys}\n\
         servers = [{other}{{ address = \"{address}\", name = \"only\", max_requests = {room} }}]\n{rest}\n"
    )
}

/// A connection from 127.0.0.`last`.
pub(crate) fn from(last: u8, to: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors suffice");
    socket.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, last], 0)))).expect("all of 127/8 is here");
    socket.connect(&to.into()).expect("it listens");
    Client::over(socket.into())
}
