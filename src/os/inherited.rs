//! Sockets that were opened before we were there: socket activation (sd_listen_fds(3)).
//!
//! They stay open for as long as we run, whoever listens on them: what comes while nobody does waits there.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// The sockets, each with its name; several may have one name.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, Socket)>);

/// One that connections come in by.
#[derive(Debug)]
pub enum Socket {
    /// From other machines, too, if its address says so.
    Tcp(TcpListener),
    /// From this machine.
    Unix(UnixListener),
}

impl Inherited {
    /// Takes what the environment says is ours, once and for all: no child inherits it. What is no socket that connections
    /// come in by is left, with the reason.
    pub fn take() -> (Inherited, Vec<String>) {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut fds = ListenFd::from_env();
        let (mut taken, mut odd) = (Vec::new(), Vec::new());
        for n in 0..fds.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let socket = fds.take_unix_listener(n).map(|socket| socket.map(Socket::Unix));
            match socket.or_else(|_| fds.take_tcp_listener(n).map(|socket| socket.map(Socket::Tcp))) {
                Ok(Some(socket)) => taken.push((name, socket)),
                Ok(None) => {}
                Err(error) => {
                    odd.push(format!("what was handed over as {name:?} can not be listened on: {error}"))
                }
            }
        }
        (Inherited(taken), odd)
    }

    /// Those of this name, or all.
    pub fn named(&self, name: Option<&str>) -> impl Iterator<Item = &Socket> {
        self.0
            .iter()
            .filter(move |(known, _)| name.is_none_or(|name| name == known))
            .map(|(_, socket)| socket)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl Socket {
    /// Another handle of the same socket, which does not wait.
    ///
    /// # Errors
    /// What the system says.
    pub fn another(&self) -> io::Result<Socket> {
        let another = match self {
            Socket::Tcp(socket) => Socket::Tcp(socket.try_clone()?),
            Socket::Unix(socket) => Socket::Unix(socket.try_clone()?),
        };
        match &another {
            Socket::Tcp(socket) => socket.set_nonblocking(true)?,
            Socket::Unix(socket) => socket.set_nonblocking(true)?,
        }
        Ok(another)
    }
}
