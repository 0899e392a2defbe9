//! Commands that are typed, and a daemon that is started, in a folder of somebody else's.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::bench::{Said, Site, until};

const CLASS: &str = "class MyDispatcher:\n    def __init__(self, config):\n        pass\n\n    \
    def sendsms(self, phone, msgs):\n        return (\"x\", 1, 0, True, 1)\n";

const QUEUE: &str = "class MyQueue:\n    def getusers(self, sent=\"N\"):\n        return []\n\n    \
    def getmsgs(self, sent=\"N\"):\n        return []\n";

/// Modules of names that every program in Python loads: whoever loads one of them has run its owner's code.
struct Trap(TempDir);

impl Trap {
    fn new() -> Trap {
        let trap = Trap(tempfile::tempdir().unwrap());
        fs::set_permissions(trap.0.path(), Permissions::from_mode(0o777)).unwrap();
        let proof = trap.0.path().join("proof");
        for name in ["json", "logging", "time", "importlib", "traceback", "base64", "threading", "inspect"] {
            let code = format!("open({proof:?}, 'a').write('{name}\\n')\nraise SystemExit(1)\n");
            fs::write(trap.0.path().join(format!("{name}.py")), code).unwrap();
        }
        if geteuid().is_root() {
            chown(trap.0.path(), Some(1), Some(1)).unwrap();
        }
        trap
    }

    /// Runs the program there.
    fn run(&self, site: &Site, args: &[&str]) -> Said {
        let said = Said::of(site.command(args).current_dir(self.0.path()).output().unwrap());
        self.holds_nothing(&format!("{args:?}: {said:?}"));
        said
    }

    fn holds_nothing(&self, what: &str) {
        let proof = fs::read_to_string(self.0.path().join("proof"));
        assert!(proof.is_err(), "{what}: it loaded {proof:?}");
    }
}

fn site(main: &str, rest: &str) -> Site {
    let site = Site::embedded("", "");
    let home = site.dir.path().display();
    let python = format!("[MyDispatcher]\ntype: PythonDispatcher\npath: {home}\nmodule: mine\n");
    site.configure(main, &format!("[dispatcher]\ndispatcher1: MyDispatcher\n{python}{rest}"));
    site.write("mine.py", CLASS);
    site.write("myqueue.py", QUEUE);
    site
}

#[test]
fn nothing_is_loaded_from_the_folder_in_which_a_command_is_typed() {
    let (site, trap) = (site("", ""), Trap::new());
    assert_eq!(trap.run(&site, &["check", "--probe"]).code, 0);
    assert_eq!(trap.run(&site, &["dispatcher", "test", "MyDispatcher", "--to", "+4790000001"]).code, 0);
    let daemon = site.spawn({
        let mut command = site.command(&["-f"]);
        command.current_dir(trap.0.path());
        command
    });
    assert_eq!(trap.run(&site, &["send", "--to", "+4790000002", "by Python"]).code, 0);
    until("it is sent", || (site.json(&["queue", "stats"])["sent"] == 1).then_some(()));
    trap.holds_nothing("the daemon");
    daemon.stop();
}

#[test]
fn nor_by_a_queue_in_python() {
    let queue =
        "[queue]\ntype: PythonQueue\nmodule: myqueue\nclass: MyQueue\npython_path: .\npoll_interval: 50ms\n";
    let (site, trap) = (site("", queue), Trap::new());
    let said = trap.run(&site, &["check", "--probe"]);
    assert_eq!(said.code, 0, "{said:?}");
    let daemon = site.spawn({
        let mut command = site.command(&["-f"]);
        command.current_dir(trap.0.path());
        command
    });
    let daemon = daemon.up();
    until("its class is asked", || (daemon.said("started") > 0).then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(500));
    trap.holds_nothing("the daemon");
    daemon.stop();
}

#[test]
fn root_does_not_stay_root_where_the_user_is_missing() {
    let site = site("", "");
    let conf = site.read("smsd.conf").replace("username: nobody", "username: no-such-user-here");
    site.write("smsd.conf", &conf);
    for args in [&["check", "--probe"][..], &["dispatcher", "test", "MyDispatcher", "--to", "112"], &["-f"]] {
        let mut command = site.command(args);
        if !geteuid().is_root() {
            // Only root has to become somebody.
            let daemon = args == ["-f"];
            if daemon {
                site.spawn(command).up().stop();
            } else {
                assert_eq!(Said::of(command.output().unwrap()).code, 0, "{args:?}");
            }
            continue;
        }
        let said = Said::of(command.output().unwrap());
        assert_eq!(said.code, 1, "{args:?}: {said:?}");
        said.names(&["there is no user \"no-such-user-here\" on this machine", "`username`"]);
        assert!(!site.path("queue.db").exists(), "{args:?}: root made a file");
    }
}
