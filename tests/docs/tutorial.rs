//! The tutorial as a reader does it: word for word, in an empty folder, not as root.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{User, chown, geteuid};

use crate::pages::page;

#[test]
fn the_tutorial_works_as_it_stands() {
    let page = page("docs/tutorial.md");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut script = "trap 'kill $(jobs -p) 2>/dev/null' EXIT\n".to_owned();
    for block in &page.blocks {
        let text = block.text.replace("8465", &port).replace("--timeout 5", "--timeout 1");
        match block.language.as_str() {
            "ini" => script.push_str(&format!("cat >smsd.conf <<'END'\n{text}END\n")),
            "sh" => {
                // What is said in words above the block.
                if text.starts_with("kill -HUP") {
                    script.push_str("sed -i '/^log:/a result: fail' smsd.conf\n");
                }
                script.push_str(&text);
                // People type more slowly than that.
                if text.contains("smsd -f &") {
                    script.push_str(
                        "for n in {1..100}; do smsd status >/dev/null 2>&1 && break; sleep 0.1; done\n",
                    );
                } else if text.starts_with("kill -HUP") {
                    script.push_str("sed -i '/^result:/d' smsd.conf; kill -HUP %1\n");
                }
            }
            _ => {}
        }
    }
    script.push_str("wait\n");

    let dir = tempfile::TempDir::new().unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_smsd"), bin.join("smsd")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(&script).current_dir(dir.path()).env_clear().env("PATH", path).env("HOME", dir.path());
    if geteuid().is_root() {
        let nobody = User::from_name("nobody").unwrap().unwrap();
        chown(dir.path(), Some(nobody.uid), Some(nobody.gid)).unwrap();
        bash.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
    }
    let output = bash.output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).join("\n");
    assert!(output.status.success(), "{said}");

    // What the page says that is seen.
    for wanted in [
        "sound (",
        "was sent at",
        " 3   waiting",
        "1   sent     1    +4799999999",
        "Alert 1 to +4799999999, severity 1: SENT",
        "phone took it at",
        "{\"ids\":[4]}",
        "alert 5 to +4777777777 still waits",
        "result is fail",
        "every alert is accounted for",
    ] {
        assert!(said.contains(wanted), "{wanted:?} is not in\n{said}");
    }
    assert!(dir.path().join(".local/state/smsd/queue.db").exists(), "the queue is where the page says");
    assert!(dir.path().join("smsd-tutorial/phone.jsonl").exists());
}
