//! Opening an address or a socket, and accepting from it.
//!
//! A socket of a daemon that is gone is in the way of the next one; it is told from one that is served by knocking.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::{Listen, http::SOCKET_PATH_MAX};
use crate::os::Inherited;
use crate::os::inherited::Socket;

/// Something that is listened on.
pub(super) enum Bound {
    Tcp(TcpListener),
    /// The file is ours, unless the socket was opened for us.
    Unix(UnixListener, Option<SocketFile>),
}

/// Somebody who came.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// The file of a socket; goes when we stop listening, if it is still ours.
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// Opens an address, or a socket that its group may use, too; or takes those that were opened for us, of which none may
/// be reached by other machines while we lack something for that.
pub(super) async fn bind(
    address: &Listen,
    inherited: &Inherited,
    lacks: Option<&str>,
) -> io::Result<Vec<Bound>> {
    let name = match address {
        Listen::Tcp(address) => return Ok(vec![Bound::Tcp(TcpListener::bind(address).await?)]),
        Listen::Unix(path) => return Ok(vec![socket(path, 0o660).await?]),
        Listen::Systemd(name) => name.as_deref(),
    };
    let bound = inherited.named(name).map(|socket| match socket.another()? {
        Socket::Unix(socket) => Ok(Bound::Unix(UnixListener::from_std(socket)?, None)),
        Socket::Tcp(socket) => {
            let address = socket.local_addr()?;
            match lacks {
                Some(lacks) if !Listen::Tcp(address).is_local() => {
                    let message =
                        format!("{address} can be reached from other machines, which needs {lacks}");
                    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
                }
                _ => Ok(Bound::Tcp(TcpListener::from_std(socket)?)),
            }
        }
    });
    let bound = bound.collect::<io::Result<Vec<Bound>>>()?;
    if bound.is_empty() {
        let message =
            "systemd has handed over no such socket; see systemctl status smsd.socket, and start smsd anew";
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    Ok(bound)
}

/// Opens a socket for our own user alone.
pub(super) async fn bind_ours(path: &Path) -> io::Result<Bound> {
    socket(path, 0o600).await
}

async fn socket(path: &Path, mode: u32) -> io::Result<Bound> {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        let message = format!("its path has {length} bytes, and a socket's has at most {SOCKET_PATH_MAX}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
        }
        Ok(_) => match UnixStream::connect(path).await {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(e) => return Err(e),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there already")),
        },
        Err(_) => {}
    }
    let listener = with_mode(path, mode)?;
    let there = std::fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: (there.dev(), there.ino()) };
    Ok(Bound::Unix(listener, Some(file)))
}

/// Opens a socket that is never open to more than its mode says: what is bound has the mode of the socket, less our umask
/// (unix(7)); what the umask has taken is given back to that very file, and to none that was put in its place.
fn with_mode(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    fchmod(&socket, Mode::from_bits_truncate(mode))?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    fchmodat(AT_FDCWD, path, Mode::from_bits_truncate(mode), FchmodatFlags::NoFollowSymlink)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(OwnedFd::from(socket)))
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;

impl Bound {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Bound::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // An answer is one piece: it is not to wait for more.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Tcp(stream, peer))
            }
            Bound::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }

    /// Where, for people; with the port that the system chose.
    pub(super) fn address(&self) -> String {
        match self {
            Bound::Tcp(listener) => listener.local_addr().map(|a| a.to_string()).unwrap_or_default(),
            Bound::Unix(_, Some(file)) => file.path.display().to_string(),
            Bound::Unix(listener, None) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(|| "a socket without a path".to_owned(), |path| path.display().to_string())
            }
        }
    }
}

impl Accepted {
    /// True if it came from this machine.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Accepted::Tcp(_, peer) => peer.ip().to_canonical().is_loopback(),
            Accepted::Unix(_) => true,
        }
    }

    /// From which address, if it has one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Accepted::Tcp(_, peer) => Some(peer.ip().to_canonical()),
            Accepted::Unix(_) => None,
        }
    }

    /// True if it is a process of our own user, or of root.
    pub(super) fn is_of_our_user(&self) -> bool {
        let Accepted::Unix(stream) = self else { return false };
        let us = nix::unistd::geteuid().as_raw();
        stream.peer_cred().is_ok_and(|peer| peer.uid() == us || peer.uid() == 0)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|f| (f.dev(), f.ino()) == self.identity);
        if ours {
            // What stays is told from one that is served, next time.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
