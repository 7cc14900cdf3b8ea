//! A listening Unix socket and its file: made without a moment in which others could open it, and removed by whoever made it.
//!
//! A file that nobody listens behind is left from a process that died, and is replaced. One that answers belongs to a process that
//! lives, and anything else is no socket: both are errors. Looking and replacing happen under a lock on the folder, so that of two
//! processes that start at once one finds the other's socket alive. Never removes a file that is not known to be dead or its own.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 128;
/// How long another process may hold the folder's lock; it needs microseconds.
const LOCK: Duration = Duration::from_secs(1);

/// The file of a socket, removed when dropped, if it is still the same file.
///
/// The open socket holds its file's inode, so that no other file can have that number: the socket is to be closed later than this is
/// dropped. Until then whoever wants the path finds it alive.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    pub(crate) identity: (u64, u64),
    is_ours: bool,
}

impl SocketFile {
    /// One that another process has made and gives away.
    pub(crate) fn given(path: &Path, identity: (u64, u64)) -> SocketFile {
        SocketFile { path: path.to_owned(), identity, is_ours: true }
    }

    /// Another process has it from now on.
    pub(crate) fn leave(&mut self) {
        self.is_ours = false;
    }

    /// Changes its permissions.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        if !self.is_there() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the socket's file is gone"));
        }
        fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }

    fn is_there(&self) -> bool {
        self.path.symlink_metadata().is_ok_and(|now| (now.dev(), now.ino()) == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours && self.is_there() {
            let _ = fs::remove_file(&self.path); // the folder may not be ours any more, and then it stays
        }
    }
}

/// Listens at `path`, which is absolute, with exactly these permissions.
///
/// # Errors
/// A process answers there, something else than a socket is there, or the folder does not let us.
pub(crate) fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let _lock = lock(folder)?;
    clear(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // On Linux the file gets the socket's own permissions, less the umask: it is never more open than it is to be.
    let socket = File::from(socket);
    socket.set_permissions(Permissions::from_mode(mode))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let made = path.symlink_metadata()?;
    let file = SocketFile::given(path, (made.dev(), made.ino()));
    file.set_mode(mode)?; // what the umask took
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((UnixListener::from(OwnedFd::from(socket)), file))
}

/// Makes room, if what is there is dead.
fn clear(path: &Path) -> io::Result<()> {
    let there = match path.symlink_metadata() {
        Ok(there) => there,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !there.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there"));
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e),
        // Also one whose queue is full.
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

/// Waits for the folder's lock, which lasts as long as the result.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    let until = Instant::now() + LOCK;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(e)) => return Err(e),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process holds a lock on its folder",
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("plimsoll-{}-{name}.sock", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn has_its_mode_whatever_the_umask_and_goes_with_its_owner() {
        for wanted in [0o600, 0o666] {
            let path = path(&format!("mode-{wanted}"));
            let (listener, file) = listen(&path, wanted).unwrap();
            assert_eq!(mode(&path), wanted);
            UnixStream::connect(&path).unwrap();
            drop((file, listener));
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let path = path("dead");
        let (listener, mut file) = listen(&path, 0o600).unwrap();
        assert_eq!(listen(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        file.leave(); // who is killed removes nothing
        drop((file, listener));
        assert!(path.exists());
        let (_next, _its) = listen(&path, 0o600).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_that_took_its_place_stays() {
        let path = path("other");
        let (listener, file) = listen(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        let (_next, _its) = listen(&path, 0o600).unwrap();
        drop(file);
        drop(listener);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_stays() {
        let path = path("file");
        fs::write(&path, "precious").unwrap();
        assert!(listen(&path, 0o600).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn one_that_was_given_away_stays() {
        let path = path("given");
        let (_listener, mut file) = listen(&path, 0o600).unwrap();
        file.leave();
        drop(file);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    }
}
