//! Logins: by tokens that may look at nothing, by guesses, and with cookies of others.

use std::thread;
use std::time::{Duration, Instant};

use super::place::{Answer, Place, account, token};

/// What the dashboard answers to these cookies.
fn page(place: &Place, cookies: &str) -> Answer {
    place.ask("GET", "/", &format!("Accept: text/html\r\nCookie: {cookies}\r\n"), "")
}

#[test]
fn a_thousand_logins_of_another_log_nobody_out() {
    let place = Place::new("", "");
    let daemon = place.start();
    let boss = place.log_in(&token("boss")).session();
    let screen = place.log_in(&token("screen")).session();
    let begun = Instant::now();
    let attack = || {
        for _ in 0..1_000 {
            let answer = place.log_in(&token("printer"));
            assert_eq!(answer.status, 403, "{answer:?}");
        }
        for _ in 0..30 {
            place.log_in(&token("screen")).session();
        }
    };
    let urgent = place.while_honest(attack, || assert_eq!(page(&place, &boss).status, 200));
    account("logins", 1_030, begun, &daemon, urgent, 64);
    assert_eq!(page(&place, &boss).status, 200);
    assert_eq!(page(&place, &screen).status, 303, "its own twenty-first ends its oldest");

    let foreign = format!("smsd_session={}", "0".repeat(64));
    for cookies in
        [format!("{foreign}; {boss}"), format!("a=b; {foreign}; smsd_session=x; {boss}; {foreign}")]
    {
        assert_eq!(page(&place, &cookies).status, 200, "{cookies}");
    }
    assert_eq!(page(&place, &foreign).status, 303);
    daemon.stop();
}

#[test]
fn guesses_are_counted_and_slowed_and_lock_nobody_out() {
    guesses(8, 3);
}

#[test]
#[ignore = "make attack"]
fn hundreds_of_guesses() {
    guesses(64, 10);
}

fn guesses(connections: usize, each: usize) {
    let place = Place::new("", "");
    let daemon = place.start();
    let begun = Instant::now();
    let attack = || {
        thread::scope(|scope| {
            for n in 0..connections {
                let place = &place;
                scope.spawn(move || {
                    for guess in 0..each {
                        let answer = place.log_in(&format!("guess-{n}-{guess}"));
                        assert!([401, 429].contains(&answer.status), "{answer:?}");
                    }
                });
            }
        });
    };
    let urgent = place.while_honest(attack, || {});
    let took = begun.elapsed();
    account("wrong logins", connections * each, begun, &daemon, urgent, 64);
    let looked_at = place.metric("smsd_intake_refused_total{intake=\"http\",reason=\"token\"}");
    assert!(looked_at >= 20.0 && looked_at <= (connections * each) as f64, "{looked_at}");
    // All that came at once before the first was found to be wrong, then ten a second.
    let most = connections as f64 + 1.0 + took.as_secs_f64() * 10.0;
    assert!(looked_at <= most, "{looked_at} looked at in {took:?}");
    let minutes = usize::try_from(took.as_secs() / 60).unwrap();
    assert!(daemon.said("asked with a token that is not known here") <= 1 + minutes, "{}", daemon.log());
    place.log_in(&token("boss")).session();
    assert!(begun.elapsed() < took + Duration::from_secs(6), "a good one is heard in its turn");
    daemon.stop();
}

#[test]
fn a_token_that_can_be_guessed_is_a_fault_where_others_can_reach_it() {
    let place = Place::new("", "");
    let site = &place.site;
    let made = rcgen::generate_simple_self_signed(["smsd.example".to_owned()]).unwrap();
    site.write("http.crt", &made.cert.pem());
    site.write("http.key", &made.signing_key.serialize_pem());
    let check = |listen: &str, token: &str| {
        let (dir, way) = (site.dir.path().display(), "[dispatcher]\ndispatcher1: DebugDispatcher\n");
        let tls = format!("tls_cert: {dir}/http.crt\ntls_key: {dir}/http.key\n");
        site.configure("", &format!("{way}[http]\nlisten: {listen}\ntoken: {token}\n{tls}"));
        site.run(&["check"])
    };
    let said = check("192.0.2.1:8465", "sms");
    assert_ne!(said.code, 0, "{said:?}");
    said.names(&["a token of less than 16 characters can be guessed", "192.0.2.1:8465"]);
    assert!(!said.err.contains("\"sms\""), "{said:?}");
    assert_eq!(check("192.0.2.1:8465", &token("long")).code, 0);
    let said = check("127.0.0.1:8465", "sms");
    assert_eq!(said.code, 0, "{said:?}");
    said.names(&["can be guessed"]);
}
