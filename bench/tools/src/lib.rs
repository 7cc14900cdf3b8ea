//! What the benchmark's programs share: a level-triggered epoll loop, listening sockets with a long queue, slots for connections.
//!
//! Single-threaded on purpose: each program gets one core. Errors of one connection end that connection; errors of the loop
//! itself end the program, because a benchmark that limps measures nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// As long as the kernel's usual ceiling (`net.core.somaxconn`), so that thousands may knock at once.
const BACKLOG: i32 = 4096;
const EVENTS: usize = 512;

/// What a socket waits for. Errors and hang-ups are always reported, as readable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    Read,
    Write,
    Nothing,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Interest::Read => EventFlags::IN,
            Interest::Write => EventFlags::OUT,
            Interest::Nothing => EventFlags::empty(),
        }
    }
}

/// A socket became ready. `failed` also when nothing was asked for.
#[derive(Clone, Copy)]
pub struct Ready {
    pub token: u64,
    pub writable: bool,
    pub failed: bool,
}

/// An epoll instance.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Poller { epoll, events: Vec::with_capacity(EVENTS) })
    }

    pub fn add(&self, source: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token), interest.flags())?)
    }

    pub fn change(&self, source: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, source, EventData::new_u64(token), interest.flags())?)
    }

    /// Waits for at least one event; `ready` is emptied first.
    pub fn wait(&mut self, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.events.clear();
        ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.extend(self.events.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Ready {
                token: data.u64(),
                writable: flags.contains(EventFlags::OUT),
                failed: flags.intersects(EventFlags::ERR | EventFlags::HUP),
            }
        }));
        Ok(())
    }
}

/// A listening socket that does not block, with a longer queue than the standard library's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Values at small numbers that are used again.
pub struct Slots<T> {
    values: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { values: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub fn insert(&mut self, value: T) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.values.push(None);
            self.values.len() - 1
        });
        self.values[slot] = Some(value);
        slot
    }

    /// `None` for an event of a connection that an earlier event of the same batch ended.
    pub fn at(&mut self, slot: usize) -> Option<&mut T> {
        self.values.get_mut(slot)?.as_mut()
    }

    pub fn remove(&mut self, slot: usize) {
        if self.values[slot].take().is_some() {
            self.free.push(slot);
        }
    }
}

/// The value of `Content-Length` in a head, if it has one.
pub fn content_length(head: &[u8]) -> Option<usize> {
    header(head, b"content-length").and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok())
}

/// The value of a field, by its name in lower case.
pub fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', head) {
        let line = &head[start..end];
        start = end + 1;
        if line.len() > name.len()
            && line[name.len()] == b':'
            && line[..name.len()].eq_ignore_ascii_case(name)
        {
            return Some(&line[name.len() + 1..]);
        }
    }
    None
}

/// Where the head ends: the place after its empty line.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// Ends the program with a message, as a command line tool does.
pub fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(2);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_found_whatever_its_case() {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 65536\r\n\r\n";
        assert_eq!(content_length(head), Some(65536));
        assert_eq!(content_length(b"GET / HTTP/1.1\r\nX-Content-Length: 1\r\n\r\n"), None);
        assert_eq!(head_end(head), Some(head.len()));
    }

    #[test]
    fn a_slot_is_used_again() {
        let mut slots = Slots::default();
        let (first, second) = (slots.insert('a'), slots.insert('b'));
        slots.remove(first);
        slots.remove(first);
        assert!(slots.at(first).is_none());
        assert_eq!((slots.insert('c'), slots.at(second)), (first, Some(&mut 'b')));
        assert_eq!(slots.insert('d'), 2);
    }
}
