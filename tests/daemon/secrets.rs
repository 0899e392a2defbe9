//! No secret is ever shown: in no log, error, or JSON.

use std::sync::Arc;

use super::bench::{Site, gateway, nobody_listens, until, until_within};
use nix::sys::signal::Signal;
use smsd::demo::gateway::Behaviour;

use crate::postgres::Server;

/// Every secret of the site contains this.
const MARK: &str = "hunter2";

#[test]
fn no_secret_is_shown_in_any_log_error_or_json() {
    let gateway = gateway();
    // A gateway that throws the request back, secret and all, and one that nobody listens at.
    let rest = format!(
        "[dispatcher]\ndispatcher1: gone\ndispatcher2: gw\n\
         [gone]\ntype: HttpGetDispatcher\nurl: http://user:{MARK}-a@{}/{MARK}-p?key={MARK}-b&to=%(phone)s&text=%(sms)s\n\
         [gw]\ntype: HttpGetDispatcher\nurl: http://user:{MARK}-c@{}/{MARK}-p?key={MARK}-d&to=%(phone)s&text=%(sms)s\n",
        nobody_listens(),
        gateway.addr
    );
    let rest = rest.replace(&format!("/{MARK}-p?"), "/send?");
    let main = "log_level: trace\ndelay: 0.2\ndelayfactor: 1\nretrylimit: 2";
    // Roles belong to the whole server, and this test changes a password.
    let site = Site::on(Arc::new(Arc::new(Server::own("-F")).database()), main, &rest);
    site.log_in_as("with_password", &format!("{MARK}-wrong"));

    // The wrong password, as the daemon and as a command meet it.
    let daemon = site.start().up();
    until("the login is refused", || (daemon.said("the queue does not answer") == 1).then_some(()));
    let mut shown = vec![daemon.log()];
    daemon.kill();
    let run = |args: &[&str]| {
        let said = site.run(args);
        format!("{args:?} {} {}", said.out, said.err)
    };
    shown.push(run(&["queue", "list"]));
    shown.push(run(&["check", "--probe"]));
    assert!(shown.iter().all(|s| s.contains("with_password")), "it says who could not log in: {shown:?}");

    // The right one, with gateways that refuse, echo and take.
    site.sql(&format!("ALTER ROLE with_password PASSWORD '{MARK}-right'"));
    site.log_in_as("with_password", &format!("{MARK}-right"));
    let daemon = site.start_with(&["-vv"]).up();
    gateway.set_for("+4790000002", Behaviour::answering(smsd::demo::gateway::Answer::Echo(500)));
    gateway.set_for("+4790000003", Behaviour::answering(smsd::demo::gateway::Answer::Echo(422)));
    site.insert_many(1, 5);
    until("three are sent", || (gateway.accepted_count() == 3).then_some(()));
    // Others are served while it fails, so its failures are its own.
    site.insert_many(6, 2);
    // The one that is refused waits for the dispatcher that could not be asked.
    until_within(30, "all has come so far", || (site.counts() == [1, 5, 1]).then_some(()));
    assert!(gateway.heads().iter().any(|head| head.contains(MARK)), "the gateway got its secret");
    let faulty = rest.replace("type: HttpGetDispatcher", "type: HttpGetDispatcher\nconcurrency: many");
    site.configure(main, &faulty.replace("%(sms)s", "%(smss)s"));
    daemon.signal(Signal::SIGHUP);
    until("the faulty file is refused", || (daemon.said("the old one stays") == 1).then_some(()));
    shown.push(run(&["check", "--json"]));
    shown.push(run(&["check"]));
    site.configure(main, &rest);
    for args in [
        &["check"][..],
        &["check", "--probe", "-v"],
        &["check", "--probe", "--json"],
        &["queue", "list", "--json", "-vv"],
        &["queue", "show", "1", "--json"],
        &["queue", "show", "2"],
        &["queue", "show", "2", "--json"],
        &["queue", "show", "3"],
        &["queue", "show", "3", "--json"],
        &["queue", "stats", "--json"],
        &["queue", "audit", "--json"],
        &["status", "--json"],
        &["dispatcher", "list"],
        &["dispatcher", "list", "--json"],
        &["dispatcher", "probe", "--json"],
        &["dispatcher", "test", "gone", "--to", "+4790000002"],
        &["dispatcher", "test", "gw", "--to", "+4790000002", "--json"],
        &["dispatcher", "test", "gw", "--to", "+4790000003"],
        &["db", "status", "--json"],
        &["-t", "+4790000002"],
        &["-vv", "-t", "+4790000003"],
    ] {
        shown.push(run(args));
    }
    shown.push(daemon.log());
    shown.push(site.sql("SELECT coalesce(detail, '') || coalesce(code, '') || dispatcher FROM smsd.attempt"));
    shown.push(site.sql("SELECT detail || by FROM smsd.note"));
    daemon.stop();
    for text in &shown {
        assert!(!text.contains(MARK), "{text}");
    }
    assert!(shown.iter().any(|text| text.contains("422")), "the tests saw what there was to see");
}
