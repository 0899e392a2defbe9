//! The log can not be written: nobody reads it, or its disk is full. SMS go out all the same.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use smsd::demo::gateway::Behaviour;

use super::bench::{Gateway, Site, gateway, give, until, until_within, ways};
use crate::faults::Faults;

/// More lines than a pipe holds.
const MANY: usize = 1000;

#[test]
fn nobody_reads_what_it_says() {
    let gateway = gateway();
    let site = Site::embedded("", &ways(&[gateway.addr], ""));
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = site.command(&["-f"]);
    // Both ends of one pipe, as under a supervisor.
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = Ends(command.spawn().unwrap());
    drop(command);
    send(&site, 1, MANY);
    until_within(60, "all are sent", || (gateway.accepted_count() == MANY).then_some(()));
    settled(&site, MANY);
    let asked = Instant::now();
    kill(Pid::from_raw(child.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    let status = until_within(20, "it ends", || child.0.try_wait().unwrap());
    assert_eq!((status.code(), asked.elapsed() < Duration::from_secs(8)), (Some(0), true));
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert!(
        said.contains("started") && said.matches("SMS accepted").count() < MANY,
        "it was never in the way"
    );
}

#[test]
fn nobody_reads_why_it_stops() {
    let gateway = gateway();
    gateway.set_for("+4791999999", Behaviour::status(500));
    let keys = "delay: 0.2\ndelayfactor: 1\nretrylimit: 3\nretrylimitaction: shutdown";
    let site = Site::embedded(keys, &ways(&[gateway.addr], ""));
    let (_reader, writer) = std::io::pipe().unwrap();
    // To the last byte: what is short would still find room. Opened apart, so that the daemon's end is as it was.
    let own = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut own = File::options().write(true).custom_flags(flags).open(own).unwrap();
    while own.write(b".").is_ok() {}
    let mut command = site.command(&["-f"]);
    command.stdout(Stdio::null()).stderr(writer);
    let mut child = Ends(command.spawn().unwrap());
    assert_eq!(site.run(&["send", "--to", "+4791999999", "the last"]).code, 0);
    let status = until_within(30, "it ends", || child.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    assert_eq!(site.audit()["waiting"], 1);
}

#[test]
fn nobody_reads_its_log_file_while_it_is_opened_anew() {
    let gateway = gateway();
    let site = Site::embedded("", "");
    let fifo = site.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    give(&fifo);
    // Both ends, so that it can be opened.
    let _reader: OwnedFd = File::options().read(true).write(true).open(&fifo).unwrap().into();
    site.configure(&format!("log_file: {}", fifo.display()), &ways(&[gateway.addr], ""));
    let daemon = site.start().up();
    send(&site, 1, MANY);
    until_within(60, "all are sent", || (gateway.accepted_count() == MANY).then_some(()));
    daemon.signal(Signal::SIGHUP);
    send(&site, MANY + 1, 10);
    until_within(20, "these too", || (gateway.accepted_count() == MANY + 10).then_some(()));
    settled(&site, MANY + 10);
    daemon.stop();
}

#[test]
fn the_disk_of_its_log_is_full() {
    let (faults, gateway) = (Faults::new(), gateway());
    let site = Site::embedded("", "");
    let logs = site.path("logs");
    std::fs::create_dir(&logs).unwrap();
    give(&logs);
    let file = logs.join("smsd.log");
    site.configure(&format!("log_file: {}", file.display()), &ways(&[gateway.addr], ""));
    let mut command = site.command(&["-f"]);
    faults.befall(&mut command, Some(&logs));
    let daemon = site.spawn(command).up();
    let log = || std::fs::read_to_string(&file).unwrap_or_default();
    sends(&site, &gateway, 1, 5);
    until("it is logged", || (log().matches("SMS accepted").count() == 5).then_some(()));

    faults.set_disk_full(true);
    sends(&site, &gateway, 6, 20);
    until("the log could not be written", || (faults.refused() >= 20).then_some(()));
    assert_eq!(log().matches("SMS accepted").count(), 5);

    faults.set_disk_full(false);
    sends(&site, &gateway, 26, 5);
    until("it is logged", || (log().matches("SMS accepted").count() == 10).then_some(()));
    until("it is told", || log().contains("lines are missing").then_some(()));
    let lost = log().split("lines=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert_eq!((lost.parse::<u32>(), log().matches("lines are missing").count()), (Ok(faults.refused()), 1));
    daemon.stop();
}

#[test]
fn the_text_of_an_sms_is_told_to_who_asked_for_it_and_to_nobody_else() {
    let gateway = gateway();
    for (keys, told) in [
        ("log_level: trace", 0),
        ("log_texts: yes", 0),
        ("log_level: debug\nlog_texts: yes", 1),
        ("log_level: debug\nlog_texts: yes\nlog_format: json", 1),
    ] {
        let before = gateway.accepted_count();
        let site = Site::embedded(keys, &ways(&[gateway.addr], ""));
        let daemon = site.start().up();
        assert_eq!(site.run(&["send", "--to", "+4790000001", "boxDown [bb-gw]"]).code, 0);
        until("it is sent", || (gateway.accepted_count() == before + 1).then_some(()));
        until("it is logged", || (daemon.said("SMS accepted") == 1).then_some(()));
        assert_eq!(daemon.said("boxDown [bb-gw]"), told, "{keys}");
        for field in ["segments", "queued_ms", "ms", "attempt", "dispatcher"] {
            assert!(daemon.said(field) > 0, "{field}");
        }
        daemon.stop();
    }
}

/// A program that ends with the value.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Puts alerts in, each to a number of its own.
fn send(site: &Site, from: usize, count: usize) {
    let numbers: Vec<String> = (from..from + count).map(|n| format!("+47{}", 90_000_000 + n)).collect();
    let mut command = site.command(&["send", "an alert"]);
    command.args(numbers.iter().flat_map(|n| ["--to", n])).stdout(Stdio::null());
    assert!(command.status().unwrap().success());
}

/// And waits until they are sent.
fn sends(site: &Site, gateway: &Gateway, from: usize, count: usize) {
    send(site, from, count);
    until("they are sent", || (gateway.accepted_count() == from + count - 1).then_some(()));
}

fn settled(site: &Site, count: usize) {
    until_within(30, "all is written down", || {
        (site.json(&["queue", "stats"])["sent"] == count).then_some(())
    });
    assert_eq!(site.audit()["possible_duplicates"], 0);
}
