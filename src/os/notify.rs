//! The service manager's ear: what sd_notify(3) says, said without ever waiting.
//!
//! Children never get at it: they inherit no variable of ours that is not on a short list ([`super::child`]).
//! Deliberately absent: a library. Those that there are wait for a service manager that does not read, and an alert
//! daemon waits for nobody whom it does not need.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::config::Env;

/// The way to the service manager that started us.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    to: SocketAddr,
    watchdog: Option<Duration>,
}

/// One thing that it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// We are at work.
    Ready,
    /// We read our configuration anew; `Ready` says when that is over.
    Reloading,
    /// We are about to end.
    Stopping,
    /// A line for people.
    Status(&'a str),
    /// We are alive.
    Watchdog,
    /// Wait so long for our end, from now on.
    Patience(Duration),
}

impl Notify {
    /// To the socket that the environment names. `None` where nobody listens, or where its name is none.
    ///
    /// # Errors
    /// The system gives us no socket.
    pub fn from_env(env: &Env) -> io::Result<Option<Notify>> {
        let Some(path) = env.path("NOTIFY_SOCKET") else { return Ok(None) };
        let to = match path.as_os_str().as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&path),
        };
        let Ok(to) = to else { return Ok(None) };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let number = |name: &str| env.var(name)?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0).map(Duration::from_micros);
        Ok(Some(Notify { socket, to, watchdog }))
    }

    /// How long it waits for a sign of life before it kills us.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Tells it, in one message. False if it does not read just now: what matters has to be said again.
    pub fn tell(&self, words: &[Word<'_>]) -> bool {
        let message: String = words.iter().map(Word::line).collect();
        self.socket.send_to_addr(message.as_bytes(), &self.to).is_ok()
    }
}

impl Word<'_> {
    fn line(&self) -> String {
        match self {
            Word::Ready => "READY=1\n".to_owned(),
            Word::Reloading => {
                // The manager tells by it which reload this is.
                let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
                format!("RELOADING=1\nMONOTONIC_USEC={}\n", now.as_micros())
            }
            Word::Stopping => "STOPPING=1\n".to_owned(),
            // A line end in it would begin another word.
            Word::Status(text) => format!("STATUS={}\n", text.replace(['\n', '\r', '\0'], " ")),
            Word::Watchdog => "WATCHDOG=1\n".to_owned(),
            Word::Patience(time) => format!("EXTEND_TIMEOUT_USEC={}\n", time.as_micros()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn env(socket: &str) -> Env {
        Env::empty(Path::new("/")).with("NOTIFY_SOCKET", socket)
    }

    #[test]
    fn it_is_heard_by_path_and_by_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstract_name = format!("smsd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(abstract_name.as_bytes()).unwrap();
        let ears = [
            (path.display().to_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{abstract_name}"), UnixDatagram::bind_addr(&address).unwrap()),
        ];
        for (name, ear) in ears {
            let notify = Notify::from_env(&env(&name)).unwrap().unwrap();
            assert!(notify.tell(&[
                Word::Ready,
                Word::Status("two\nlines"),
                Word::Patience(Duration::from_millis(2))
            ]));
            let mut heard = [0; 100];
            let n = ear.recv(&mut heard).unwrap();
            assert_eq!(&heard[..n], b"READY=1\nSTATUS=two lines\nEXTEND_TIMEOUT_USEC=2000\n");
        }
    }

    #[test]
    fn one_that_does_not_read_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _ear = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::from_env(&env(&path.display().to_string())).unwrap().unwrap();
        let said = (0..10_000).take_while(|_| notify.tell(&[Word::Watchdog])).count();
        assert!((1..10_000).contains(&said), "{said}");
    }

    #[test]
    fn the_watchdog_is_that_of_this_process() {
        let of = |pid: &str, usec: &str| {
            let env = env("/nowhere").with("WATCHDOG_PID", pid).with("WATCHDOG_USEC", usec);
            Notify::from_env(&env).unwrap().unwrap().watchdog()
        };
        let us = std::process::id().to_string();
        assert_eq!(of(&us, "1500000"), Some(Duration::from_millis(1500)));
        assert_eq!([of("1", "1500000"), of(&us, "0"), of(&us, "soon")], [None; 3]);
        assert!(Notify::from_env(&Env::empty(Path::new("/"))).unwrap().is_none());
    }
}
