//! A name server that says what it is told to, over UDP and TCP.
//!
//! A test gives it a function from a question (name and type) to what is sent; questions are counted. Messages are put together by
//! hand, so that they can be wrong in every way.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stage::free_port;
use crate::support::Watched;

pub(crate) const A: u16 = 1;
pub(crate) const CNAME: u16 = 5;
pub(crate) const AAAA: u16 = 28;

/// A question as it was asked.
pub(crate) struct Asked<'a> {
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) over_tcp: bool,
    message: &'a [u8],
    /// Where the question ends.
    end: usize,
}

/// What is said.
pub(crate) enum Say {
    Nothing,
    Bytes(Vec<u8>),
}

type Mind = Box<dyn Fn(&Asked<'_>) -> Say + Send>;

/// The name server. Serves until the test's process ends.
pub(crate) struct Liar {
    port: u16,
    mind: Arc<Watched<Mind>>,
    questions: Arc<AtomicU64>,
}

impl Liar {
    pub(crate) fn start(mind: impl Fn(&Asked<'_>) -> Say + Send + 'static) -> Liar {
        let port = free_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let udp = UdpSocket::bind(address).expect("it was free");
        let tcp = TcpListener::bind(address).expect("it was free");
        let mind: Arc<Watched<Mind>> = Arc::new(Watched::new(Box::new(mind)));
        let questions = Arc::new(AtomicU64::new(0));
        let liar = Liar { port, mind: Arc::clone(&mind), questions: Arc::clone(&questions) };
        let say = move |message: &[u8], over_tcp| {
            questions.fetch_add(1, Ordering::Relaxed);
            let asked = read(message, over_tcp)?;
            match mind.look(|mind| mind(&asked)) {
                Say::Nothing => None,
                Say::Bytes(bytes) => Some(bytes),
            }
        };
        let (say, over_tcp) = (Arc::new(say.clone()), say);
        std::thread::spawn(move || {
            let mut message = [0; 4_096];
            while let Ok((length, from)) = udp.recv_from(&mut message) {
                if let Some(answer) = say(&message[..length], false) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                let say = over_tcp.clone();
                std::thread::spawn(move || stream_of(stream, |message| say(message, true)));
            }
        });
        liar
    }

    /// Says something else from now on.
    pub(crate) fn say(&self, mind: impl Fn(&Asked<'_>) -> Say + Send + 'static) {
        self.mind.change(|old| *old = Box::new(mind));
    }

    pub(crate) fn questions(&self) -> u64 {
        self.questions.load(Ordering::Relaxed)
    }

    pub(crate) fn resolver(&self) -> String {
        format!("resolver = \"127.0.0.1:{}\"", self.port)
    }
}

fn stream_of(mut stream: TcpStream, say: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut message).ok()?;
        let answer = say(&message)?;
        let length = u16::try_from(answer.len()).expect("the test keeps to what a message can be");
        stream.write_all(&length.to_be_bytes()).ok()?;
        stream.write_all(&answer).ok()?;
    }
}

fn read(message: &[u8], over_tcp: bool) -> Option<Asked<'_>> {
    let (mut at, mut name) = (12, String::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        name += &String::from_utf8_lossy(message.get(at..at + length)?).to_ascii_lowercase();
        name.push('.');
        at += length;
    }
    let kind = u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]);
    Some(Asked { name, kind, over_tcp, message, end: at + 4 })
}

/// A record: name, type, TTL, data.
pub(crate) type Record = (String, u16, u32, Vec<u8>);

pub(crate) fn address(name: &str, ip: &str, ttl: u32) -> Record {
    (name.to_owned(), A, ttl, ip.parse::<Ipv4Addr>().expect("an address").octets().to_vec())
}

pub(crate) fn alias(name: &str, of: &str) -> Record {
    (name.to_owned(), CNAME, 1, labels(of))
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).expect("it is short"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

impl Asked<'_> {
    /// An answer with these records. `flags` are those of its second half: 0 is fine, 2 is SERVFAIL, 3 is NXDOMAIN; `0x200` says that it is truncated.
    pub(crate) fn answer(&self, flags: u16, records: &[Record]) -> Say {
        let mut bytes = self.message[..2].to_vec();
        bytes.extend((0x8180 | flags).to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(u16::try_from(records.len()).expect("few enough").to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.message[12..self.end]);
        for (name, kind, ttl, data) in records {
            // What was asked for stands at 12 already.
            if *name == self.name {
                bytes.extend([0xc0, 12]);
            } else {
                bytes.extend(labels(name));
            }
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1]);
            bytes.extend(ttl.to_be_bytes());
            bytes.extend(u16::try_from(data.len()).expect("it is short").to_be_bytes());
            bytes.extend(data);
        }
        Say::Bytes(bytes)
    }

    /// The same, with its bytes changed.
    pub(crate) fn spoilt(&self, records: &[Record], spoil: impl Fn(&mut Vec<u8>)) -> Say {
        let Say::Bytes(mut bytes) = self.answer(0, records) else { return Say::Nothing };
        spoil(&mut bytes);
        Say::Bytes(bytes)
    }

    /// These IPv4 addresses, and no IPv6.
    pub(crate) fn addresses(&self, ips: &[&str], ttl: u32) -> Say {
        if self.kind != A {
            return self.answer(0, &[]);
        }
        self.answer(0, &ips.iter().map(|ip| address(&self.name, ip, ttl)).collect::<Vec<_>>())
    }
}
