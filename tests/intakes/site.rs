//! A site with both intakes and a way out that writes down what it is given.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::bench::{Daemon, Site, nobody_listens, until};

/// See the module.
pub struct Place {
    pub site: Site,
    pub port: u16,
}

impl Place {
    /// `rest`: more sections, or keys of `[smtp]`, which stands last.
    pub fn new(rest: &str) -> Place {
        let place = Place { site: Site::embedded("delay: 0.2", ""), port: nobody_listens().port() };
        place.configure("folder: spool", rest);
        place
    }

    pub fn configure(&self, spool: &str, rest: &str) {
        let text = format!(
            "[dispatcher]\ndispatcher1: DebugDispatcher\n[DebugDispatcher]\nlog: {}\n\
             [groups]\nnoc: +4790000011, +4790000012\n\
             [spool]\n{spool}\npoll_interval: 100ms\n[smtp]\nlisten: 127.0.0.1:{}\n{rest}\n",
            self.site.path("sent.jsonl").display(),
            self.port
        );
        self.site.configure("delay: 0.2\ngroup_interval: 0", &text);
    }

    /// A running daemon that listens.
    pub fn start(&self) -> Daemon {
        let daemon = self.site.start().up();
        until("it takes mails", || std::net::TcpStream::connect(("127.0.0.1", self.port)).ok());
        daemon
    }

    /// What went out: number and text.
    pub fn sent(&self) -> Vec<(String, String)> {
        let word = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
        let log = self.site.read("sent.jsonl");
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| (word(&line, "to"), word(&line, "text"))).collect()
    }

    /// Waits until as many have gone out, and returns them, sorted.
    #[track_caller]
    pub fn sent_all(&self, count: usize) -> Vec<(String, String)> {
        let mut sent =
            until(&format!("{count} SMS"), || Some(self.sent()).filter(|sent| sent.len() >= count));
        assert_eq!(sent.len(), count, "{sent:?}");
        sent.sort();
        sent
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.site.path("spool").join(name)
    }

    /// Puts a file into `outgoing/` as careful scripts do.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        let aside = self.site.path(&format!("{name}.aside"));
        fs::write(&aside, content).unwrap();
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(aside, self.path("outgoing").join(name)).unwrap();
    }

    /// Waits for a file, and returns what it holds.
    #[track_caller]
    pub fn file(&self, name: &str) -> String {
        let path = self.path(name);
        // The words are written into it after it has moved.
        until(&format!("{name} with its words"), || {
            let text = String::from_utf8_lossy(&fs::read(&path).ok()?).into_owned();
            (text.contains("\nAlerts: ") || text.contains("Fail_reason: ")).then_some(text)
        })
    }

    pub fn names(&self, folder: &str) -> Vec<String> {
        let Ok(read) = fs::read_dir(self.path(folder)) else { return Vec::new() };
        let mut names: Vec<String> =
            read.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

pub fn pairs(sent: &[(&str, &str)]) -> Vec<(String, String)> {
    sent.iter().map(|(to, text)| ((*to).to_owned(), (*text).to_owned())).collect()
}
