//! Programs in Python that others wrote, as peers: each a script in `tests/peers` that says its port first.

use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A server that runs until it is dropped.
pub struct Peer {
    pub port: u16,
    child: Child,
    /// What it says; none once somebody else listens.
    pub said: Option<Lines<BufReader<ChildStdout>>>,
}

impl Peer {
    pub fn start(script: &str, args: &[&str]) -> Peer {
        let mut child =
            python(script).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = said.next().expect("scripts/install-test-deps installs what it needs").unwrap();
        Peer { port: port.parse().unwrap(), child, said: Some(said) }
    }

    /// The next line that it says, as JSON.
    pub fn line(&mut self) -> Value {
        serde_json::from_str(&self.said.as_mut().unwrap().next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A script, with what `scripts/install-test-deps` has installed.
pub fn python(script: &str) -> Command {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command.args(["-W", "ignore"]).arg(root.join("tests/peers").join(script));
    command.env("PYTHONPATH", root.join("target/peers/python")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
