use axum::http::Request;

use super::*;
use crate::config::Token;

fn http(tokens: &[(&str, &str, &[Scope])]) -> HttpConfig {
    let tokens = tokens.iter().map(|(name, token, scopes)| Token {
        name: (*name).to_owned(),
        scopes: scopes.iter().copied().collect(),
        bounds: Arc::default(),
        hash: Hash::of(token),
    });
    HttpConfig { tokens: tokens.collect(), ..HttpConfig::default() }
}

fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn who(door: &Door, http: &HttpConfig, came: &Came, parts: &Parts) -> Result<(Caller, Option<String>), u16> {
    let found = door.who(http, came, &parts.method, &parts.headers);
    found
        .map(|(caller, cookie)| (caller, cookie.map(|c| c.to_str().unwrap().to_owned())))
        .map_err(|problem| problem.status.as_u16())
}

fn here() -> Came {
    Came { from: From::Here, ..Came::default() }
}

#[test]
fn a_token_says_who_and_what() {
    let http = http(&[("one", "first", &[Scope::Send]), ("two", "second", &[Scope::Read, Scope::Operate])]);
    let door = Door::default();
    let with = |value| who(&door, &http, &Came::default(), &parts("POST", &[("authorization", value)]));
    let (caller, _) = with("Bearer second").unwrap();
    assert_eq!((&*caller.name, caller.scopes.to_string()), ("two", "read, operate".to_owned()));
    assert!(with("bearer  first ").is_ok());
    for bad in ["Bearer third", "Bearer ", "Bearer", "Basic Zmlyc3Q=", "first", "Bearer first second"] {
        assert_eq!(with(bad).unwrap_err(), 401, "{bad}");
    }
    // Where there are tokens, being here is not enough; and our own user needs none.
    assert_eq!(who(&door, &http, &here(), &parts("GET", &[("host", "localhost")])).unwrap_err(), 401);
    let own = Came { from: From::OurUser("alice".into()), ..Came::default() };
    let (caller, _) = who(&door, &http, &own, &parts("POST", &[])).unwrap();
    assert_eq!((&*caller.name, caller.scopes), ("alice", Scopes::ALL));
}

#[test]
fn without_tokens_this_machine_may_ask_by_its_own_names() {
    let door = Door::default();
    let http = HttpConfig { hosts: vec!["smsd.example".to_owned()], ..http(&[]) };
    let get = |host: &str| who(&door, &http, &here(), &parts("GET", &[("host", host)]));
    for good in ["127.0.0.1:8465", "[::1]:8465", "localhost", "LOCALHOST:1", "smsd.example:80", "127.9.9.9"] {
        assert_eq!(&*get(good).unwrap().0.name, "http", "{good}");
    }
    for bad in ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.1", "[::2]:80", "localhost.evil"] {
        assert_eq!(get(bad).unwrap_err(), 403, "{bad}");
    }
    assert_eq!(who(&door, &http, &here(), &parts("GET", &[])).unwrap_err(), 403);
    let two = [("host", "localhost"), ("host", "evil")];
    assert_eq!(who(&door, &http, &here(), &parts("GET", &two)).unwrap_err(), 403);
    let far = Came::default();
    assert_eq!(who(&door, &http, &far, &parts("GET", &[("host", "localhost")])).unwrap_err(), 401);
}

#[test]
fn another_sites_page_changes_nothing() {
    let door = Door::default();
    let ask = |method, extra: (&str, &str)| {
        who(&door, &http(&[]), &here(), &parts(method, &[("host", "localhost:8465"), extra]))
    };
    for (name, value, good) in [
        ("origin", "http://localhost:8465", true),
        ("origin", "http://localhost:9", false),
        ("origin", "http://evil.example", false),
        ("origin", "null", false),
        ("origin", "", false),
        ("sec-fetch-site", "same-origin", true),
        ("sec-fetch-site", "none", true),
        ("sec-fetch-site", "cross-site", false),
        ("sec-fetch-site", "same-site", false),
    ] {
        assert_eq!(ask("POST", (name, value)).is_ok(), good, "{name}: {value}");
        assert!(ask("GET", (name, value)).is_ok(), "{name}: {value}");
    }
}

/// The parts as a handler behind the guard sees them.
fn let_in(door: &Door, http: &HttpConfig, method: &str, headers: &[(&str, &str)]) -> (Parts, Option<String>) {
    let mut parts = parts(method, headers);
    let (caller, cookie) = who(door, http, &here(), &parts).unwrap();
    parts.extensions.insert(caller);
    (parts, cookie)
}

#[test]
fn a_form_must_bring_what_its_page_was_given() {
    let (door, http) = (Door::default(), http(&[]));
    let (page, cookie) = let_in(&door, &http, "GET", &[("host", "localhost"), ("accept", "text/html")]);
    let (token, cookie) = (csrf_token(&page), cookie.unwrap());
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains("Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();

    let (form, again) = let_in(&door, &http, "POST", &[("host", "localhost"), ("cookie", cookie)]);
    assert_eq!(again, None);
    check_form(&form, &token).unwrap();
    for wrong in ["", &token[1..], &token.replace(['0', '1', '2'], "3")] {
        assert_eq!(check_form(&form, wrong).unwrap_err().status, 403);
    }
    let (stranger, _) = let_in(&door, &http, "POST", &[("host", "localhost")]);
    assert!(check_form(&stranger, &token).is_err(), "another browser");
    let (later, _) = let_in(&Door::default(), &http, "POST", &[("host", "localhost"), ("cookie", cookie)]);
    assert!(check_form(&later, &token).is_err(), "another life");
    // Programs set no cookie; who was not let in proves nothing.
    assert_eq!(let_in(&door, &http, "GET", &[("host", "localhost")]).1, None);
    assert!(check_form(&parts("POST", &[]), "").is_err());
}

#[test]
fn a_session_is_as_good_as_its_token_and_no_longer() {
    let (door, http) = (Door::default(), http(&[("one", "first", &[Scope::Read])]));
    let post = |headers: &[(&str, &str)]| parts("POST", headers);
    assert_eq!(door.sessions.log_in(&http, &post(&[]), "second").unwrap_err().status, 401);
    let led = post(&[("host", "localhost"), ("origin", "http://evil.example")]);
    assert_eq!(door.sessions.log_in(&http, &led, "first").unwrap_err().status, 403);

    let mut login = post(&[]);
    login.extensions.insert(Came { tls: true, ..here() });
    let cookie = door.sessions.log_in(&http, &login, " first\n").unwrap().to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    assert!(!format!("{door:?}").contains(&cookie["smsd_session=".len()..]), "we keep its hash");

    let (mut page, _) = let_in(&door, &http, "GET", &[("cookie", &format!("a=b; {cookie}"))]);
    let caller = page.extensions.get::<Caller>().unwrap();
    assert_eq!((&*caller.name, caller.scopes.has(Scope::Read)), ("one", true));
    check_form(&page, &csrf_token(&page)).unwrap();
    let led = parts("POST", &[("cookie", cookie), ("host", "x"), ("sec-fetch-site", "cross-site")]);
    assert_eq!(who(&door, &http, &here(), &led).unwrap_err(), 403);

    // The token is gone from the configuration.
    let asks = parts("GET", &[("cookie", cookie)]);
    assert_eq!(
        who(&door, &self::http(&[("one", "other", &[Scope::Read])]), &here(), &asks).unwrap_err(),
        401
    );
    page.headers.insert("cookie", HeaderValue::from_str(cookie).unwrap());
    assert!(door.sessions.log_out(&page).to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(who(&door, &http, &here(), &asks).unwrap_err(), 401);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_bounded_in_number_and_time() {
    let (door, http) = (Door::default(), http(&[("one", "first", &[Scope::Read])]));
    let login = parts("POST", &[]);
    let log_in = || {
        let cookie = door.sessions.log_in(&http, &login, "first").unwrap();
        cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
    };
    let known = |cookie: &str| who(&door, &http, &here(), &parts("GET", &[("cookie", cookie)])).is_ok();
    let first = log_in();
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let second = log_in();
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    for _ in 0..19 {
        log_in();
    }
    assert!(!known(&first) && known(&second), "the oldest goes");
    tokio::time::advance(std::time::Duration::from_secs(12 * 3600)).await;
    assert!(!known(&second));
}
