//! Every example of smsd.conf is read by the program's own reader, and must be without a complaint.

use std::fs;
use std::path::Path;

use smsd::config::{self, Env, Faults};

use crate::pages::all;

#[test]
fn every_example_is_read_without_a_complaint() {
    let mut wrong = Vec::new();
    let mut read = 0;
    for page in all() {
        let mut before = String::new();
        for block in &page.blocks {
            let first = block.text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
            let section = first.starts_with('[') && first.ends_with(']');
            if block.language != "ini" && !(block.language.is_empty() && section) {
                continue;
            }
            // What has no section goes on with that of the block before.
            let text = if section { block.text.clone() } else { format!("{before}{}", block.text) };
            if section {
                before.clone_from(&text);
            }
            read += 1;
            let complaints = complaints(&text);
            if !complaints.is_empty() {
                wrong.push(format!("{}: {}\n{text}", page.path, complaints.join("\n")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read > 25, "{read} examples");
}

/// What is odd about an example, which is given the sections that it takes for granted and the files that it names.
fn complaints(text: &str) -> Vec<String> {
    let dir = tempfile::TempDir::new().unwrap();
    let mut whole = text.to_owned();
    let has = |text: &str, section: &str| text.lines().any(|line| line == section);
    if !has(text, "[dispatcher]") {
        // The ways out that it describes, else one that leads nowhere.
        let of_type = |line: &&str| line.starts_with("type:") && line.contains("Dispatcher");
        let mut named: Vec<String> = Vec::new();
        let mut section = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name;
                if name.ends_with("Dispatcher") {
                    named.push(name.to_owned());
                }
            } else if of_type(&line) && !section.ends_with("Dispatcher") {
                named.push(section.to_owned());
            }
        }
        if named.is_empty() {
            named.push("DebugDispatcher".to_owned());
        }
        whole.push_str("\n[dispatcher]\n");
        for (n, name) in named.iter().enumerate() {
            whole.push_str(&format!("dispatcher{}: {name}\n", n + 1));
        }
    }
    if text.contains("group:") && !has(text, "[groups]") {
        whole.push_str("\n[groups]\nnoc: +4790000001\n");
    }
    let needs_http =
        ["[alertmanager]", "[grafana]", "[webhook."].iter().any(|section| text.contains(section));
    if needs_http && !has(text, "[http]") {
        whole.push_str("\n[http]\nlisten: 127.0.0.1:8465\n");
    }
    let folder = format!("{}/", dir.path().display());
    let whole = whole.replace("/etc/smsd/", &folder);
    let pair = rcgen::generate_simple_self_signed(vec!["smsd.example".to_owned()]).unwrap();
    for word in whole.split_whitespace().filter(|word| word.starts_with(&folder)) {
        let content = match Path::new(word).extension().and_then(|extension| extension.to_str()) {
            Some("crt" | "pem") => pair.cert.pem(),
            Some("key") => pair.signing_key.serialize_pem(),
            Some("url") if word.contains("database") => "postgresql://nav@db.example/nav".to_owned(),
            Some("url") => "https://sms.example.org/send?to=%(phone)s&text=%(sms)s".to_owned(),
            _ => "0123456789abcdef0123456789abcdef".to_owned(),
        };
        write(Path::new(word), &content);
    }
    let conf = dir.path().join("smsd.conf");
    write(&conf, &whole);
    // NAV's file, for whoever says that his queue is NAV's.
    write(&dir.path().join("db.conf"), "dbhost=localhost\ndb_nav=nav\nscript_default=nav\nuserpw_nav=x\n");
    let queue = if whole.contains("NAVDBQueue") { "" } else { "db.conf" };
    if !queue.is_empty() {
        fs::remove_file(dir.path().join(queue)).unwrap();
    }
    let faults = match config::load(Some(&conf), &Env::empty(dir.path())) {
        Ok(loaded) => loaded.warnings,
        Err(Faults(faults)) => faults,
    };
    faults.iter().map(|fault| format!("line {}: {}", fault.line.unwrap_or(0), fault.message)).collect()
}

fn write(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
