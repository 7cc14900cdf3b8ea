//! Handing listening sockets to another process, for an upgrade of the binary.
//!
//! The old process starts the new one with one end of a Unix socket pair as its standard input, and sends the sockets themselves
//! over it (SCM_RIGHTS), so that clients that wait to be accepted are not lost. The new process says when it serves; until then
//! nothing has changed for the old one, which may then say something last. Sockets are never closed and bound anew.

use std::env;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde_json::{Value, json};

use crate::admin_server::Admin;

/// Tells a process that its standard input is a handover.
const VARIABLE: &str = "PLIMSOLL_HANDOVER";
/// The most that one process tells another, at the start and at the end, in bytes. As many orders as there can be take 40 MB.
pub const LARGEST: usize = 256 << 20;
/// Most sockets that are believed.
const MOST_SOCKETS: u64 = 65_536;
/// How long one step may take between two processes on one machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the new process writes once it serves.
pub const READY: u8 = b'R';

/// What a new process is given.
#[derive(Debug)]
pub struct Given {
    /// Listening sockets.
    pub sockets: Vec<TcpListener>,
    /// Admin addresses, as they were configured.
    pub doors: Vec<GivenDoor>,
    /// What was learned, as `Snapshot::learned` puts it.
    pub learned: Value,
    /// What rate limits remember.
    pub limits: Value,
    /// Lists of servers, as `Sources::handed` puts them.
    pub discovered: Value,
    /// What operators have ordered, as `Wanted::handover` puts it.
    pub wanted: Value,
    stream: UnixStream,
}

/// What a new process is told beside what it is given.
#[derive(Debug, Default)]
pub struct Told {
    /// What was learned about servers.
    pub learned: Value,
    /// What rate limits remember.
    pub limits: Value,
    /// Lists of servers.
    pub discovered: Value,
    /// What operators have ordered.
    pub wanted: Value,
}

/// A bound admin address on its way to another process.
#[derive(Debug)]
pub struct GivenDoor {
    /// As configured.
    pub bind: String,
    /// Device and inode of its file, if it has one.
    pub identity: Option<(u64, u64)>,
    /// The listening socket.
    pub socket: OwnedFd,
}

impl Given {
    /// Tells the old process that this one serves. It may be gone: then there is nobody to tell. The stream ends once it has taken
    /// notice and said what there was to say, and from then on it takes no configuration any more.
    pub fn ready(mut self) -> UnixStream {
        let _ = self.stream.write_all(&[READY]);
        self.stream
    }
}

/// Starts `program` with `arguments` and gives it `sockets`. The stream carries [`READY`] once it serves, and ends if it does not.
///
/// # Errors
/// There is too much to tell it; it cannot be started; or it does not take the sockets, and then it has been ended.
pub fn start(
    program: &Path,
    arguments: &[std::ffi::OsString],
    sockets: &[BorrowedFd<'_>],
    admins: &[Admin],
    told: Told,
) -> io::Result<(Child, UnixStream)> {
    let text = description(sockets, admins, told);
    if text.len() > LARGEST {
        let reason =
            format!("what it is to be told is {} bytes, and at most {LARGEST} are taken", text.len());
        return Err(io::Error::other(reason));
    }
    let (ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new(program)
        .args(arguments)
        .env(VARIABLE, "stdin")
        .env_remove("WATCHDOG_PID") // it becomes the process that systemd watches
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    if let Err(e) = give(&ours, sockets, admins, &text) {
        let _ = child.kill(); // it may have ended by itself, which is why giving failed
        let _ = child.wait();
        return Err(e);
    }
    Ok((child, ours))
}

/// Values are moved into it, not copied: rate limits alone may be tens of megabytes.
fn description(sockets: &[BorrowedFd<'_>], admins: &[Admin], told: Told) -> String {
    let doors: Vec<Value> =
        admins.iter().map(|admin| json!([admin.bind().to_string(), admin.identity()])).collect();
    let mut text = json!({ "sockets": sockets.len(), "admin": doors });
    let Told { learned, limits, discovered, wanted } = told;
    for (key, value) in
        [("learned", learned), ("limits", limits), ("discovered", discovered), ("wanted", wanted)]
    {
        text[key] = value;
    }
    text.to_string()
}

fn give(mut stream: &UnixStream, sockets: &[BorrowedFd<'_>], admins: &[Admin], text: &str) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&(text.len() as u64).to_be_bytes())?;
    stream.write_all(text.as_bytes())?;
    let behind = admins.iter().map(Admin::socket);
    for socket in sockets.iter().copied().chain(behind) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sent = [socket];
        if !control.push(SendAncillaryMessage::ScmRights(&sent)) {
            return Err(io::Error::other("no room for a descriptor"));
        }
        sendmsg(stream, &[IoSlice::new(b"s")], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Takes what the process that started this one gives; `None` if nobody does.
///
/// # Errors
/// Somebody does, and it is not whole.
pub fn take() -> io::Result<Option<Given>> {
    if env::var_os(VARIABLE).is_none_or(|value| value != "stdin") {
        return Ok(None);
    }
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_read_timeout(Some(PATIENCE))?;
    receive(stream).map(Some)
}

fn receive(mut stream: UnixStream) -> io::Result<Given> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u64::from_be_bytes(length)).ok().filter(|&n| n <= LARGEST);
    let mut text = vec![0; length.ok_or_else(|| bad("a description too long"))?];
    stream.read_exact(&mut text)?;
    let mut said: Value = serde_json::from_slice(&text)?;
    let count =
        said["sockets"].as_u64().filter(|&n| n <= MOST_SOCKETS).ok_or_else(|| bad("no number of sockets"))?;
    let sockets =
        (0..count).map(|_| receive_socket(&stream).map(TcpListener::from)).collect::<io::Result<_>>()?;
    // A process of a version without them says nothing of them.
    let doors = said["admin"].as_array().map_or(&[][..], Vec::as_slice);
    let doors = doors.iter().map(|door| {
        let bind = door[0].as_str().ok_or_else(|| bad("an admin address without a name"))?.to_owned();
        let identity = door[1][0].as_u64().zip(door[1][1].as_u64());
        Ok(GivenDoor { bind, identity, socket: receive_socket(&stream)? })
    });
    let doors = doors.collect::<io::Result<_>>()?;
    let mut take = |key: &str| said[key].take();
    let (learned, limits, discovered, wanted) =
        (take("learned"), take("limits"), take("discovered"), take("wanted"));
    Ok(Given { sockets, doors, learned, limits, discovered, wanted, stream })
}

fn receive_socket(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "fewer sockets than announced"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_socket_that_was_handed_over_accepts_who_waited_before() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _waiting = TcpStream::connect(address).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (learned, limits) = (json!({ "a": 1 }), json!([3]));
        let told = Told { learned, limits, discovered: json!([2]), wanted: json!(7) };
        let sockets = [listener.as_fd()];
        give(&ours, &sockets, &[], &description(&sockets, &[], told)).unwrap();
        drop(listener);
        let given = receive(theirs).unwrap();
        assert_eq!((&given.learned["a"], &given.discovered[0]), (&json!(1), &json!(2)));
        assert_eq!((&given.wanted, &given.limits[0]), (&json!(7), &json!(3)));
        assert_eq!(given.sockets[0].local_addr().unwrap(), address);
        given.sockets[0].accept().unwrap();
        given.ready();
        let mut said = [0];
        (&ours).read_exact(&mut said).unwrap();
        assert_eq!(said, [READY]);
    }

    #[test]
    fn half_a_handover_is_an_error() {
        for sent in [
            &b""[..],
            b"\0\0\0",
            &u64::MAX.to_be_bytes(),
            b"\0\0\0\0\0\0\0\x02{}",
            b"\0\0\0\0\0\0\0\x0d{\"sockets\":1}",
        ] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(sent).unwrap();
            drop(ours);
            assert!(receive(theirs).is_err(), "{sent:?}");
        }
    }
}
