//! Gateways that throw back a password in other clothes, and that answer without an end.

use std::time::Instant;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use smsd::demo::gateway::{Answer, Behaviour};

use super::place::{Place, account};
use crate::bench::{Gateway, gateway_that, until};

const PASSWORD: &str = "s~~~Kret>Gate?way";

/// The password as a gateway may write it, within words of its own.
fn clothes() -> Vec<(&'static str, String)> {
    let each = |f: &dyn Fn(u8) -> String| PASSWORD.bytes().map(f).collect::<String>();
    vec![
        ("as it is", PASSWORD.to_owned()),
        ("upper case", PASSWORD.to_uppercase()),
        ("base64", BASE64_STANDARD.encode(PASSWORD)),
        ("base64 of user and password", BASE64_STANDARD.encode(format!("me:{PASSWORD}"))),
        ("base64url", BASE64_URL_SAFE_NO_PAD.encode(PASSWORD)),
        ("hex", each(&|b| format!("{b:02x}"))),
        ("upper-case hex", each(&|b| format!("{b:02X}"))),
        ("each byte in percent", each(&|b| format!("%{b:02X}"))),
        ("escapes of JSON", each(&|b| format!("\\u{b:04x}"))),
        ("escapes of XML", each(&|b| format!("&#{b};"))),
        ("hexadecimal escapes of XML", each(&|b| format!("&#x{b:x};"))),
        ("reversed", PASSWORD.chars().rev().collect()),
        ("with spaces", PASSWORD.chars().map(|c| format!("{c} ")).collect()),
    ]
}

/// One alert is offered to as many gateways as there are clothes; all refuse it.
#[test]
fn a_password_is_known_again_in_other_clothes() {
    let place = Place::new("", "");
    let clothes = clothes();
    let refusing = |(_, worn): &(&str, String)| {
        gateway_that(Behaviour::status(400).body(format!("{{\"error\": \"bad login {worn} for me\"}}")))
    };
    let gateways: Vec<Gateway> = clothes.iter().map(refusing).collect();
    let mut rest = String::from("[dispatcher]\n");
    for n in 1..=gateways.len() {
        rest += &format!("dispatcher{n}: gw{n}\n");
    }
    for (n, gateway) in gateways.iter().enumerate() {
        rest += &format!(
            "[gw{}]\ntype: HttpDispatcher\nbase_url: http://{}\nurl: /send\nbody: {{\"to\": \"{{{{ phone }}}}\", \"text\": \"{{{{ text }}}}\"}}\n\
             auth: basic\nusername: me\npassword: {PASSWORD}\n",
            n + 1,
            gateway.addr
        );
    }
    let boss = [("boss", "send read operate")];
    place.configure("log_level: debug\n", &rest, &boss);
    let daemon = place.start();
    let id = place.queued("boss", "+4790000001", "refused everywhere", 3);
    until("all have refused it", || {
        gateways.iter().all(|gateway| !gateway.targets().is_empty()).then_some(())
    });
    let attempts = || place.get("boss", &format!("/api/v1/alerts/{id}")).body;
    until("all attempts are closed", || {
        (attempts().matches("\"code\":\"400\"").count() >= clothes.len()).then_some(())
    });
    let asked = gateways[0].heads().concat();
    let basic = BASE64_STANDARD.encode(format!("me:{PASSWORD}"));
    assert!(asked.contains(&basic), "the gateway got it: {asked}");
    let shown = [
        daemon.log(),
        place.site.run(&["why", &id.to_string(), "--json"]).out,
        place.site.run(&["why", &id.to_string()]).out,
        place.site.run(&["queue", "list", "--json"]).out,
        place.site.run(&["dispatcher", "list", "--json"]).out,
        attempts(),
        place.get("boss", "/api/v1/attempts").body,
        place.get("boss", "/api/v1/dispatchers").body,
        place.get("boss", "/metrics").body,
    ];
    for (said, place) in shown
        .iter()
        .zip(["log", "why --json", "why", "list", "dispatchers", "alert"].iter().chain(&["API"; 9]))
    {
        for (name, worn) in &clothes {
            // As JSON writes it, too.
            let escaped = serde_json::to_string(worn).unwrap();
            let hidden = !said.contains(worn.as_str()) && !said.contains(escaped.trim_matches('"'));
            assert!(hidden, "{name} stands in {place}: {said}");
        }
    }
    assert!(shown[0].contains("<secret>"), "the test saw what there was to see: {}", shown[0]);
    daemon.stop();
}

/// Provisional answers without an end to a few numbers, by the gateway that serves all others.
#[test]
fn an_answer_that_never_begins_holds_up_nobody() {
    let place = Place::new("concurrency: 8\nunknown_grace: 1h\n", "");
    let numbers: Vec<String> = (0..3).map(|n| format!("+4792{n:06}")).collect();
    let provisional = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(100);
    for to in &numbers {
        place.gateway.set_for(to, Behaviour::answering(Answer::Endless(Vec::new(), provisional.clone())));
    }
    let daemon = place.start();
    let (begun, before) = (Instant::now(), daemon.cpu());
    let attack = || {
        let ids: Vec<i64> = numbers.iter().map(|to| place.queued("printer", to, "slow", 1)).collect();
        for id in ids {
            until("it is given up", || {
                let story = place.get("boss", &format!("/api/v1/alerts/{id}")).body;
                story.contains("goes on and on").then_some(())
            });
        }
    };
    let urgent = place.while_honest(attack, || {});
    let spent = daemon.cpu() - before;
    account("provisional answers without end", numbers.len(), begun, &daemon, urgent, 64);
    let seconds = begun.elapsed().as_secs_f64();
    assert!(spent.as_secs_f64() < 0.5 + seconds / 2.0, "{spent:?} of the processor in {seconds} s");
    daemon.stop();
}
