//! One phone has many spellings, and is one phone.

use std::thread::sleep;
use std::time::Duration;

use super::place::Place;
use crate::bench::until;

#[test]
fn denied_numbers_are_denied_in_each_spelling() {
    let place = Place::new("deny: +882, +4482\n", "");
    let daemon = place.start();
    let denied =
        ["+88212345678", "0088212345678", "88212345678", "+448212345678", "00448212345678", "448212345678"];
    for to in denied {
        place.queued("printer", to, "dear", 5);
    }
    for to in ["+4788212345678", "+4790000001"] {
        place.queued("printer", to, "cheap", 5);
    }
    until("what is allowed is sent", || (place.gateway.accepted_count() >= 2).then_some(()));
    sleep(Duration::from_millis(500));
    let sent: Vec<String> = place.gateway.accepted().into_iter().map(|sms| sms.phone).collect();
    assert!(sent.iter().all(|to| !denied.contains(&to.as_str())) && sent.len() == 2, "{sent:?}");
    daemon.stop();
}

#[test]
fn the_hours_account_is_the_phones_and_not_the_spellings() {
    let place = Place::new("max_per_hour: 2\n", "");
    let daemon = place.start();
    let spellings = ["+4790000001", "4790000001", "004790000001"];
    for (n, to) in spellings.into_iter().cycle().take(9).enumerate() {
        place.queued("printer", to, &format!("number {n}"), 5);
        if n < 2 {
            until("it is sent", || place.is_sent(&format!("number {n}")).then_some(()));
        }
    }
    place.queued("printer", "+4790000002", "another phone", 5);
    until("another phone is served", || place.is_sent("another phone").then_some(()));
    sleep(Duration::from_millis(500));
    assert_eq!(place.gateway.accepted_count(), 3, "{:?}", place.gateway.accepted());
    daemon.stop();
}
