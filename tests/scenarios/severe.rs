//! `overflow: severe`: what is severe is never only counted while a storm is young, whoever else writes for the phone.

use smsd::alert::Reason;
use smsd::config::{Main, Overflow, Style};
use smsd::queue::AlertState;

use super::bench::*;

fn bench(gateway: &std::sync::Arc<Gateway>, change: impl Fn(&mut Main)) -> Bench {
    Bench::start_with(Default::default(), &[gateway], |o| {
        o.main.overflow = Overflow::Severe;
        o.main.group_interval = Some(secs(10));
        change(&mut o.main);
    })
}

fn long(name: &str) -> String {
    format!("{name}{}", " is down".repeat(16))
}

#[tokio::test(start_paused = true)]
async fn a_long_alert_of_somebody_else_squeezes_out_nothing_severe() {
    let gateway = Gateway::good();
    let bench = bench(&gateway, |_| ());
    let first = bench.alert(&phone(1), &long("printer"), 1);
    let severe = bench.alert(&phone(1), "CORE ROUTER IS DOWN", 2);
    let mild = bench.alert(&phone(1), &long("lunch"), 3);
    pass(secs(60)).await;
    assert_eq!(
        gateway.texts(),
        [format!("{} +1 see web.", long("printer")), "CORE ROUTER IS DOWN".to_owned()]
    );
    for id in [first, severe] {
        assert_eq!(bench.state(id).await, AlertState::Sent);
    }
    assert_eq!(bench.row(mild).await.reason, Some(Reason::Squeezed));
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_the_first_sms_of_a_storm_leave_severe_alerts_for_the_next() {
    let gateway = Gateway::good();
    let bench = bench(&gateway, |main| (main.severe_sms, main.web_address) = (3, "sms.example".into()));
    let storm = |bench: &Bench, what: &str| {
        (0..9).for_each(|n| _ = bench.alert(&phone(1), &long(&format!("{what}{n}")), 1));
    };
    storm(&bench, "a");
    pass(secs(120)).await;
    let told = |text: &String| (text[..2].to_owned(), text.contains("+5 see sms.example."));
    let want = |what: &str| {
        let told = |n| (format!("{what}{n}"), n == 3);
        (0..4).map(told).collect::<Vec<_>>()
    };
    assert_eq!(
        gateway.texts().iter().map(told).collect::<Vec<_>>(),
        want("a"),
        "the fourth counts the others"
    );
    // It was quiet for an interval: the next storm begins anew.
    storm(&bench, "b");
    pass(secs(120)).await;
    assert_eq!(gateway.texts().iter().skip(4).map(told).collect::<Vec<_>>(), want("b"));
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_storm_that_goes_on_is_one_storm() {
    let gateway = Gateway::good();
    let bench = bench(&gateway, |main| (main.severe_sms, main.compose) = (2, Style::Digest));
    for n in 0..60 {
        bench.alert(&phone(1), &long(&format!("x{n:02}")), 1);
        pass(secs(1)).await;
    }
    pass(secs(120)).await;
    let counting = gateway.texts().iter().filter(|text| text.contains(" see web.")).count();
    assert!(counting >= 3, "{:?}", gateway.texts());
    bench.audit().await;
    bench.stop().await.unwrap();
}
