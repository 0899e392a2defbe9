//! The contract of a dispatcher (`src/dispatch.rs`), as a suite over a fixture: a dispatcher together with a
//! gateway that can be told how to behave. `contract!(Fixture)` makes the tests of one dispatcher.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use smsd::alert::Phone;
use smsd::dispatch::{Class, Dispatcher, Receipt, Sms, SubmitError};
use tokio::time::{Instant, timeout};

/// The deadline of each submit here.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(300);

/// What a submit may take beyond its deadline (RELIABILITY: ± 1 s).
const SLACK: Duration = Duration::from_secs(1);

/// Every secret of a fixture's configuration contains one of these; no answer may.
pub(crate) const MARKERS: [&str; 3] = ["marker", "bWFya2Vy", "ZXItcGFzcw"];

/// A dispatcher and its gateway.
#[async_trait]
pub(crate) trait Fixture: Sized + Send + Sync + 'static {
    /// What the gateway can be told.
    type Play: Send + Sync + Debug;

    /// A gateway that accepts, and a dispatcher to it whose every secret contains a marker.
    async fn start() -> Self;

    /// The dispatcher.
    fn dispatcher(&self) -> Arc<dyn Dispatcher>;

    /// Tells the gateway how to behave towards one number, or towards all.
    fn play(&self, phone: Option<&str>, play: &Self::Play);

    /// All the ways in which it can misbehave, each with what must follow.
    fn cases() -> Vec<Case<Self::Play>>;

    /// A way in which it says nothing for ever, having read the SMS.
    fn silence() -> Self::Play;

    /// A way in which it gives back all that it was sent, refusing it.
    fn echo() -> Self::Play;

    /// What of a text its protocol can carry: all of it, but for what no SMS has.
    fn carried(text: &str) -> String {
        text.to_owned()
    }

    /// Number and text of every submit that reached the gateway, in the order in which it read them.
    fn seen(&self) -> Vec<(String, String)>;

    /// Nothing listens any more.
    async fn stop(self) -> Arc<dyn Dispatcher>;
}

/// One way in which a gateway behaves.
pub(crate) struct Case<P> {
    pub(crate) name: String,
    pub(crate) play: P,
    /// `None`: accepted.
    pub(crate) want: Option<Class>,
}

/// The tests of one dispatcher.
macro_rules! contract {
    ($fixture:ty: $($test:ident),* $(,)?) => {
        mod contract {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::contract::$test::<$fixture>().await;
            })*
        }
    };
    ($fixture:ty) => {
        $crate::contract::contract!($fixture: what_a_person_wrote_arrives_to_the_letter,
            every_behaviour_has_its_class, silence_ends_at_the_deadline,
            nobody_there_is_unavailable, one_that_hangs_delays_nobody, nothing_comes_back_that_should_not_show);
    };
}
pub(crate) use contract;

pub(crate) fn sms(to: &str, text: &str) -> Sms {
    Sms::new(Phone::parse(to).unwrap(), text.into(), TIMEOUT)
}

/// Submits and looks at all that a dispatcher must keep, whatever the gateway does.
pub(crate) async fn submit(dispatcher: &dyn Dispatcher, sms: &Sms) -> Result<Receipt, SubmitError> {
    let begun = Instant::now();
    let answer = timeout(Duration::from_secs(10), dispatcher.submit(sms)).await.expect("submit hangs");
    assert!(begun.elapsed() < sms.timeout + SLACK, "{:?} taken", begun.elapsed());
    let shown = format!("{answer:?} {}", answer.as_ref().err().map(ToString::to_string).unwrap_or_default());
    for marker in MARKERS {
        assert!(!shown.contains(marker), "{shown}");
    }
    if let Err(error) = &answer {
        assert!(!error.detail.is_empty() && error.detail.len() <= SubmitError::DETAIL_MAX, "{error:?}");
        assert!(!error.detail.chars().any(char::is_control), "{error:?}");
    }
    answer
}

fn class(answer: &Result<Receipt, SubmitError>) -> Option<Class> {
    answer.as_ref().err().map(|error| error.class)
}

pub(crate) async fn what_a_person_wrote_arrives_to_the_letter<F: Fixture>() {
    let fixture = F::start().await;
    let dispatcher = fixture.dispatcher();
    let mut sent = Vec::new();
    for (n, text) in CORPUS.iter().enumerate() {
        let to = format!("+479900{n:04}");
        assert_eq!(class(&submit(&*dispatcher, &sms(&to, text)).await), None, "{text:?}");
        sent.push((to, F::carried(text)));
    }
    assert_eq!(fixture.seen(), sent);
}

pub(crate) async fn every_behaviour_has_its_class<F: Fixture>() {
    let fixture = F::start().await;
    let dispatcher = fixture.dispatcher();
    let cases = F::cases();
    for (n, case) in cases.iter().enumerate() {
        let to = format!("+479901{n:04}");
        fixture.play(Some(&to), &case.play);
        let answer = submit(&*dispatcher, &sms(&to, "Router gw1 is down")).await;
        assert_eq!(class(&answer), case.want, "{}: {answer:?}", case.name);
        // What one answer leaves behind must not reach the next SMS.
        assert_eq!(
            class(&submit(&*dispatcher, &sms("+4799029999", "after")).await),
            None,
            "after {}",
            case.name
        );
        let seen = fixture.seen().iter().filter(|(phone, _)| *phone == to).count();
        assert_eq!(seen, 1, "{}: submitted more than once", case.name);
    }
}

pub(crate) async fn silence_ends_at_the_deadline<F: Fixture>() {
    let fixture = F::start().await;
    fixture.play(None, &F::silence());
    let begun = Instant::now();
    let answer = submit(&*fixture.dispatcher(), &sms("+4799030000", "hei")).await;
    assert_eq!(class(&answer), Some(Class::Unknown), "{answer:?}");
    assert!(begun.elapsed() >= TIMEOUT, "given up after {:?}", begun.elapsed());
}

pub(crate) async fn nobody_there_is_unavailable<F: Fixture>() {
    let fixture = F::start().await;
    let before = fixture.dispatcher();
    assert!(before.probe().await.is_ok());
    assert_eq!(class(&submit(&*before, &sms("+4799040000", "hei")).await), None);
    let dispatcher = fixture.stop().await;
    for _ in 0..2 {
        let answer = submit(&*dispatcher, &sms("+4799040001", "hei")).await;
        assert_eq!(class(&answer), Some(Class::Unavailable), "{answer:?}");
    }
    let probed = dispatcher.probe().await.expect_err("nobody is there");
    assert_eq!(probed.class, Class::Unavailable);
    assert!(MARKERS.iter().all(|marker| !format!("{probed:?}").contains(marker)), "{probed:?}");
}

pub(crate) async fn one_that_hangs_delays_nobody<F: Fixture>() {
    let fixture = F::start().await;
    fixture.play(Some("+4799050000"), &F::silence());
    let dispatcher = fixture.dispatcher();
    let mut submits = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for n in 0..16 {
        let dispatcher = dispatcher.clone();
        submits.spawn(async move {
            for round in 0..if n == 0 { 1 } else { 5 } {
                let sms = Sms {
                    timeout: Duration::from_secs(3),
                    ..sms(&format!("+479905{n:04}"), &round.to_string())
                };
                assert_eq!(class(&submit(&*dispatcher, &sms).await), (n == 0).then_some(Class::Unknown));
            }
            (n, begun.elapsed())
        });
    }
    while let Some(done) = submits.join_next().await {
        let (n, took) = done.unwrap();
        assert!(n == 0 || took < Duration::from_secs(2), "{n} was delayed: {took:?}");
    }
    let mut seen = fixture.seen();
    assert_eq!(seen.len(), 1 + 15 * 5);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 1 + 15 * 5, "submitted more than once");
}

pub(crate) async fn nothing_comes_back_that_should_not_show<F: Fixture>() {
    let fixture = F::start().await;
    fixture.play(None, &F::echo());
    for text in ["Router gw1 is down, & so is gw2: call the NOC", "short", "æøå er nede på linja"] {
        let error = submit(&*fixture.dispatcher(), &sms("+4799060000", text)).await.expect_err("it refuses");
        for piece in ["Router", "gw1", "NOC", "short", "linja", "nede"] {
            assert!(!error.detail.contains(piece), "{error:?}");
        }
    }
    let health = fixture.dispatcher().probe().await.expect("alive");
    assert!(MARKERS.iter().all(|marker| !health.0.contains(marker)), "{health:?}");
}

/// What must arrive as it is, and as nothing else.
pub(crate) const CORPUS: [&str; 22] = [
    "æøåÆØÅ €",
    "a & b = c # d % e + f ? g / h \\ i",
    "%0d%0aX-Injected: 1",
    "\r\nX-Injected: 1\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
    "\n",
    "\r",
    "NUL\0end",
    "\u{1b}[31mred",
    "ctrl-z\u{1a}end",
    "\"double\" 'single' `back`",
    "]]> <![CDATA[ <!ENTITY x SYSTEM \"file:///etc/passwd\"> &x;",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "..",
    "%(phone)s %(sms)s %s %%",
    "&to=+4712345678&text=pwned",
    "\u{202e}reversed\u{2066}isolate",
    "'; DROP TABLE smsq; --",
    "😀 👩‍👩‍👧",
    " leading and trailing ",
    "+",
    "${jndi:ldap://x} {{7*7}} $(id) `id`",
];
