//! Files in smstools' format.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::bench::{give, until};
use crate::site::{Place, pairs};

#[test]
fn a_file_becomes_an_sms_and_tells_its_alert() {
    let place = Place::new("");
    let daemon = place.start();
    until("outgoing/", || place.path("outgoing").is_dir().then_some(()));
    place.put("send_Xy1", "To: 4790000001\nFlash: yes\n\nrouter down\n");
    place.put("latin", b"To: 4790000002\nAlphabet: ISO\n\np\xE5 linja");
    place.put("ucs", b"To: 4790000003\nAlphabet: UCS\n\n\xFE\xFF\x6F\x22\x5B\x57");
    place.put("group", "To: group:noc\nTo: s1234\n\nall of you");
    place.put("bad", "To: 12abc\n\nto nobody\n");
    place.put("half", "To: 12abc\nTo: 4790000004\n\nto somebody\n");
    place.put("binary", "To: 4790000005\nAlphabet: binary\n\n\x01\x02");
    place.put("long", vec![b'x'; 70_000]);
    let want = [
        ("+4790000001", "router down"),
        ("+4790000002", "på linja"),
        ("+4790000003", "漢字"),
        ("+4790000004", "to somebody"),
        ("+4790000011", "all of you"),
        ("+4790000012", "all of you"),
        ("1234", "all of you"),
    ];
    assert_eq!(place.sent_all(want.len()), pairs(&want));

    let file = place.file("sent/send_Xy1");
    let id = file.lines().find_map(|line| line.strip_prefix("Alerts: ")).unwrap();
    assert!(file.starts_with("To: 4790000001\nFlash: yes\nQueued: ") && file.ends_with("\n\nrouter down\n"));
    let why = place.site.run(&["why", id]).out;
    assert!(why.contains("router down") && why.contains("accepted"), "{why}");
    assert!(place.file("failed/bad").contains("Fail_reason: No destination: \"12abc\""));
    assert!(place.file("failed/half").contains("Fail_reason: Not queued for \"12abc\""));
    assert!(place.file("failed/half").contains("Alerts: "));
    assert!(place.file("failed/binary").contains("smsd sends texts only"));
    until("the long one is put aside", || place.path("failed/long").exists().then_some(()));
    assert_eq!(place.names("outgoing"), Vec::<String>::new());
    place.site.audit();
    daemon.stop();
}

/// The alerts are durable, `sent/` can not be written, and then the power fails: once more, and they would be doubled.
#[test]
fn killed_between_queueing_and_moving_a_file_is_queued_once() {
    let place = Place::new("");
    let daemon = place.start();
    until("the folders", || place.path("failed").is_dir().then_some(()));
    fs::remove_dir(place.path("sent")).unwrap();
    fs::write(place.path("sent"), "in the way").unwrap();
    for n in 1..=20 {
        place.put(&format!("f{n}"), format!("To: 47900000{n:02}\n\nalert {n}"));
    }
    place.sent_all(20);
    until("it is said", || (daemon.said("can not be taken out of outgoing/") == 1).then_some(()));
    assert_eq!(place.names("outgoing").len(), 20);
    // It goes on with what comes in meanwhile, and queues none of them again.
    place.put("f99", "To: 4790000099\n\nalert 99");
    place.sent_all(21);
    assert_eq!(daemon.said("(queued before)"), 0);
    daemon.kill();

    fs::remove_file(place.path("sent")).unwrap();
    let daemon = place.start();
    until("all have moved", || (place.names("sent").len() == 21).then_some(()));
    assert_eq!(daemon.said("(queued before)"), 21);
    assert!(place.file("sent/f7").contains("\nAlerts: "));
    // The same words again are another alert.
    place.put("f7", "To: 4790000007\n\nalert 7");
    place.sent_all(22);
    until("it has another name", || place.path("sent/f7.1").exists().then_some(()));
    assert_eq!(place.site.audit()["possible_duplicates"], 0);
    daemon.stop();
}

#[test]
fn a_folder_that_is_not_there_or_odd_holds_up_nothing() {
    let place = Place::new("");
    place.configure("folder: gone/spool", "");
    let daemon = place.start();
    until("it is said", || (daemon.said("gone/spool") == 1).then_some(()));
    fs::create_dir(place.site.path("gone")).unwrap();
    give(&place.site.path("gone"));
    until("it is taken up", || (daemon.said("works again") == 1).then_some(()));

    place.configure("folder: spool", "");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    until("the folder that is reloaded", || place.path("outgoing").is_dir().then_some(()));
    let secret = place.site.path("secret");
    fs::write(&secret, "To: 4790000001\n\nsecret").unwrap();
    std::os::unix::fs::symlink(&secret, place.path("outgoing/link")).unwrap();
    nix::unistd::mkfifo(&place.path("outgoing/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(place.path("outgoing/dir")).unwrap();
    place.put("a\nb\u{1b}[31m", "To: 4790000002\n\nodd name");
    fs::write(place.path("outgoing/closed"), "To: 4790000003\n\nunreadable").unwrap();
    fs::set_permissions(place.path("outgoing/closed"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(place.sent_all(1), pairs(&[("+4790000002", "odd name")]));
    until("all is said", || (daemon.said("it is left in outgoing/") >= 4).then_some(()));
    place.put("later", "To: 4790000004\n\nlater");
    place.sent_all(2);
    assert_eq!(daemon.said("it is left in outgoing/"), 4, "each once");
    assert!(!daemon.log().contains('\u{1b}'));
    assert_eq!(place.names("outgoing"), ["closed", "dir", "link", "pipe"]);
    daemon.stop();
}
