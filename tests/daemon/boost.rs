//! NAV's BoostDispatcher, unchanged, with a service of the library that NAV used.

use super::bench::{Site, until};
use crate::peers::Peer;

#[test]
fn a_nav_configuration_with_boost_sends_and_says_what_failed() {
    let mut service = Peer::start("soappy_server.py", &[]);
    let rest = format!(
        "[dispatcher]\ndispatcher1: BoostDispatcher\n\n[BoostDispatcher]\nurl: http://127.0.0.1:{}/\n\
         username: nav\npassword: hunter2\nsender: NAV\n",
        service.port
    );
    let site = Site::nav("delay: 5", &rest);
    site.insert("+4790000001", "bb-gw.example.org is down: på & <av>", Some(2));
    site.insert("+4790000001", "the whole rack is down", Some(1));
    site.insert("+47400", "a number that the service does not know", Some(3));
    let daemon = site.start();
    until("one is refused", || (daemon.said("refused by every way out") == 1).then_some(()));
    until("two are sent", || (site.counts() == [1, 2, 0]).then_some(()));
    let call = service.line();
    let want = "1: the whole rack is down; 2: bb-gw.example.org is down: på & <av>";
    assert_eq!((&call["phone"], &call["message"]), (&"+4790000001".into(), &want.into()));
    assert_eq!([&call["username"], &call["password"], &call["sender"]], ["nav", "hunter2", "NAV"]);
    let id = site.sql("SELECT id FROM smsq WHERE sent = 'N'");
    let why = site.run(&["why", &id]).out;
    assert!(why.contains("fault Client") && why.contains("no such number"), "{why}");
    assert!(!format!("{why}{}", daemon.log()).contains("hunter2"), "{why}{}", daemon.log());
    site.audit();
    daemon.stop();
}
