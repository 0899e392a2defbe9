//! What the end of a session means: the table's situations, by their very words.
//!
//! The table leaves open what an answer means that fits none of its rows. Then the phase decides: a refusal for good that
//! names no cause is the server's, until someone acts (as a policy), since to blame the mail would lose an alert; an answer
//! that is none is as silence.

use std::collections::BTreeMap;

use super::{Failure, Phase, Reply};
use crate::dispatch::Class;
use crate::dispatch::status::{Meaning, Protocol, Status, of_situation};

/// What failures mean to one dispatcher.
#[derive(Clone, Debug, Default)]
pub struct Meanings {
    /// By reply code or enhanced code, before the table.
    pub overrides: BTreeMap<String, Status>,
    /// Each mail goes to an address of its own, made of the number: a refused address is a refused number.
    pub address_per_number: bool,
}

impl Meanings {
    /// The class of a failure.
    pub fn of(&self, failure: &Failure) -> Class {
        let (phase, reply) = match failure {
            Failure::Refused(phase, reply) => (*phase, reply),
            Failure::Lacking(_) => return Class::Misconfigured,
            Failure::Broken(Phase::Dot, _) => return row(NO_ANSWER),
            Failure::Broken(..) => return row(BEFORE_THE_DOT),
        };
        let own = |code: String| match self.overrides.get(&code) {
            Some(Status::Refused(class)) => Some(*class),
            // Nothing was taken that was not handed over.
            Some(Status::Accepted) | None => None,
        };
        let by_operator = own(reply.shown_code()).or_else(|| own(reply.code.to_string()));
        by_operator.unwrap_or_else(|| self.by_table(phase, reply))
    }

    /// True if the operator says that this refusal of a whole mail means that it was taken.
    pub fn is_accepted(&self, failure: &Failure) -> bool {
        let Failure::Refused(Phase::Dot, reply) = failure else { return false };
        [reply.shown_code(), reply.code.to_string()]
            .iter()
            .find_map(|code| self.overrides.get(code))
            .is_some_and(|status| *status == Status::Accepted)
    }

    fn by_table(&self, phase: Phase, reply: &Reply) -> Class {
        match (phase, reply.code, reply.enhanced) {
            (Phase::Greeting, 500.., _) => row("554/521/556 at greeting or MAIL"),
            (Phase::Connect | Phase::Greeting | Phase::Hello, ..) => row(BEFORE_THE_DOT),
            (Phase::StartTls | Phase::Login, 400..=499, _) => row("454 at STARTTLS/AUTH"),
            (Phase::StartTls | Phase::Login, 500.., _) => row("530,534,535,538 at AUTH"),
            // A mail that is neither taken nor refused.
            (Phase::Dot, ..=399, _) => row(NO_ANSWER),
            (_, ..=399, _) => row(BEFORE_THE_DOT),
            (Phase::Dot, 421, _) => row("4xx other, any 4.y.z"),
            (_, 421, _) => row(BEFORE_THE_DOT),
            (_, _, Some((_, 6, _))) => row("5.6.x"),
            (_, 452, _) | (_, _, Some((4, 3, 1) | (4, 5, 3))) => row("452 / 4.3.1 / 4.5.3"),
            (Phase::Recipient, 450, Some((4, 2, _))) if self.address_per_number => row(BUSY),
            (_, 451, _) => row("451"),
            (_, 400..=499, _) | (_, _, Some((4, ..))) => row("4xx other, any 4.y.z"),
            (_, 552, Some((5, 3, 4) | (5, 2, 3))) => row("552 5.3.4/5.2.3"),
            (_, 552, _) if self.address_per_number => row(FULL),
            // A mailbox that every alert goes to is the gateway's matter: no recipient may lose an alert for it.
            (_, 552, _) => row("4xx other, any 4.y.z"),
            (_, 500..=504 | 555, _) => row("500-504, 555"),
            (_, _, Some((5, 7, _))) => row(POLICY),
            (Phase::Recipient, 550 | 551 | 553, _) if self.address_per_number => row(ADDRESS),
            // The note of that row: the address is configuration.
            (Phase::Recipient, 550 | 551 | 553, _) => Class::Misconfigured,
            (Phase::Sender, ..) => row("554/521/556 at greeting or MAIL"),
            _ => row(POLICY),
        }
    }
}

const BEFORE_THE_DOT: &str = "connect/greeting/EHLO failure, 421 before the final dot";
const ADDRESS: &str = "550 5.1.1/5.1.2/5.1.3/5.1.6/5.1.10, 551, 553 at RCPT";
const BUSY: &str = "450 4.2.x at RCPT";
const FULL: &str = "552 5.2.2";
const POLICY: &str = "554 5.7.x, 550 5.7.x";
const NO_ANSWER: &str = "no reply after the dot (10 min, RFC 5321 s4.5.3.2.6), EOF";

/// The class of a row of the table. A row that is not there has the class of doubt: a test asks for each of them.
fn row(words: &str) -> Class {
    match of_situation(Protocol::Smtp, words) {
        Some(Meaning::Answer(Status::Refused(class))) => class,
        _ => Class::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::smtp::reply_of;
    use crate::dispatch::status::{DEFAULT_RETRY_AFTER, table};

    fn class(phase: Phase, answer: &str) -> Class {
        Meanings::default().of(&refused(phase, answer))
    }

    fn refused(phase: Phase, answer: &str) -> Failure {
        let (code, text) = answer.split_once(' ').unwrap_or((answer, ""));
        Failure::Refused(phase, reply_of(&[(code.parse().unwrap(), text.to_owned())]))
    }

    /// Each row of the table, with answers that it is about.
    #[test]
    fn every_row_of_the_table_has_its_answers() {
        use Phase::*;
        const THROTTLED: Class = Class::Throttled { retry_after: DEFAULT_RETRY_AFTER };
        type Answers = [(Phase, &'static str)];
        let rows: &[(&str, &Answers, Class)] = &[
            (
                BEFORE_THE_DOT,
                &[
                    (Greeting, "421 busy"),
                    (Greeting, "450 no"),
                    (Hello, "421"),
                    (Hello, "500 what"),
                    (Hello, "550 5.7.1 no"),
                    (Sender, "421 4.3.2 closing"),
                    (Recipient, "421"),
                    (Data, "421"),
                    (Data, "250 not 354"),
                    (Recipient, "354 early"),
                ],
                Class::Unavailable,
            ),
            (
                "454 at STARTTLS/AUTH",
                &[(StartTls, "454 no TLS"), (Login, "454 4.7.0 later")],
                Class::Unavailable,
            ),
            (
                "530,534,535,538 at AUTH",
                &[
                    (Login, "530 5.7.0 no"),
                    (Login, "534 5.7.9 weak"),
                    (Login, "535 5.7.8 wrong"),
                    (Login, "538 5.7.11 TLS first"),
                    (Login, "504 5.5.4 what"),
                    (StartTls, "501 no"),
                ],
                Class::Misconfigured,
            ),
            // For a mailbox of one's own, see below.
            (BUSY, &[(Recipient, "450 4.2.1 busy"), (Recipient, "450 4.2.0 grey")], Class::Unavailable),
            (
                "451",
                &[(Sender, "451"), (Recipient, "451 4.7.1 grey"), (Dot, "451 4.3.0 error")],
                Class::Unavailable,
            ),
            (
                "452 / 4.3.1 / 4.5.3",
                &[
                    (Sender, "452"),
                    (Recipient, "452 4.5.3 many"),
                    (Dot, "451 4.3.1 full"),
                    (Data, "450 4.5.3 x"),
                ],
                THROTTLED,
            ),
            (
                "4xx other, any 4.y.z",
                &[
                    (Recipient, "450 busy"),
                    (Sender, "450 4.2.1 not RCPT"),
                    (Recipient, "455 no"),
                    (Dot, "421 4.3.2 closing"),
                    (Recipient, "550 4.7.1 mixed"),
                ],
                Class::Unavailable,
            ),
            (
                ADDRESS,
                &[
                    (Recipient, "550 5.1.1 unknown"),
                    (Recipient, "550 5.1.2 no host"),
                    (Recipient, "550 5.1.3 bad"),
                    (Recipient, "550 5.1.6 moved"),
                    (Recipient, "550 5.1.10 null MX"),
                    (Recipient, "550 no"),
                    (Recipient, "551 elsewhere"),
                    (Recipient, "553 not allowed"),
                ],
                Class::Misconfigured,
            ),
            (FULL, &[(Recipient, "552 5.2.2 full"), (Dot, "552 no room")], Class::Unavailable),
            ("552 5.3.4/5.2.3", &[(Dot, "552 5.3.4 big"), (Sender, "552 5.2.3 long")], Class::Rejected),
            ("5.6.x", &[(Dot, "554 5.6.0 what"), (Dot, "550 5.6.3 conversion")], Class::Rejected),
            (
                POLICY,
                &[
                    (Dot, "554 5.7.1 spam"),
                    (Recipient, "550 5.7.1 relaying denied"),
                    (Dot, "550 5.7.26 DMARC"),
                    (Recipient, "530 5.7.0 log in first"),
                    (Dot, "554 no"),
                    (Data, "554 no valid recipients"),
                ],
                Class::Misconfigured,
            ),
            (
                "554/521/556 at greeting or MAIL",
                &[
                    (Greeting, "554 no SMTP here"),
                    (Greeting, "521"),
                    (Greeting, "556"),
                    (Sender, "554"),
                    (Sender, "521"),
                    (Sender, "556"),
                    (Sender, "550 5.1.8 bad sender"),
                ],
                Class::Misconfigured,
            ),
            (
                "500-504, 555",
                &[
                    (Sender, "500"),
                    (Sender, "555 5.5.4"),
                    (Recipient, "501 5.5.4"),
                    (Data, "503"),
                    (Dot, "504"),
                ],
                Class::Rejected,
            ),
            (NO_ANSWER, &[(Dot, "354 go on"), (Dot, "250")], Class::Unknown),
        ];
        let mut asked: Vec<&str> = vec!["250 after the dot"];
        for (words, answers, want) in rows {
            asked.push(words);
            assert!(matches!(of_situation(Protocol::Smtp, words), Some(Meaning::Answer(_))), "{words}");
            for (phase, answer) in *answers {
                assert_eq!(class(*phase, answer), *want, "{phase:?} {answer}");
            }
        }
        let table: Vec<&str> =
            table().iter().filter(|r| r.protocol == Protocol::Smtp).map(|r| r.code).collect();
        for words in table {
            assert!(asked.contains(&words), "{words} is not tested");
        }
        let per_number = Meanings { address_per_number: true, ..Meanings::default() };
        assert_eq!(per_number.of(&refused(Recipient, "550 5.1.1 unknown")), Class::Rejected);
        assert_eq!(per_number.of(&refused(Recipient, "550 5.7.1 relaying denied")), Class::Misconfigured);
        for (phase, answer) in
            [(Recipient, "450 4.2.1 busy"), (Recipient, "552 5.2.2 full"), (Dot, "552 no room")]
        {
            assert_eq!(per_number.of(&refused(phase, answer)), Class::Deferred, "{answer}");
        }
        for phase in [Connect, Greeting, Hello, StartTls, Login, Sender, Recipient, Data] {
            assert_eq!(Meanings::default().of(&Failure::Broken(phase, String::new())), Class::Unavailable);
        }
        assert_eq!(Meanings::default().of(&Failure::Broken(Dot, String::new())), Class::Unknown);
        assert_eq!(Meanings::default().of(&Failure::Lacking("")), Class::Misconfigured);
    }

    #[test]
    fn overrides_come_before_the_table() {
        let own = |code: &str, word: &str| (code.to_owned(), Status::from_word(word).unwrap());
        let overrides = [own("550", "RCPT"), own("5.7.1", "MSG"), own("554", "OK")].into();
        let meanings = Meanings { overrides, ..Meanings::default() };
        for (phase, answer, want) in [
            (Phase::Recipient, "550 5.1.1 no", Class::Rejected),
            (Phase::Dot, "554 5.7.1 no", Class::Rejected),
            (Phase::Dot, "554 5.7.2 no", Class::Misconfigured),
        ] {
            assert_eq!(meanings.of(&refused(phase, answer)), want, "{answer}");
        }
        assert!(meanings.is_accepted(&refused(Phase::Dot, "554 5.7.2 known already")));
        assert!(!meanings.is_accepted(&refused(Phase::Dot, "554 5.7.1 no")));
        assert!(!meanings.is_accepted(&refused(Phase::Recipient, "554 no")));
    }

    #[test]
    fn every_answer_means_something_and_only_silence_is_doubt() {
        use Phase::*;
        for phase in [Greeting, Hello, StartTls, Login, Sender, Recipient, Data, Dot] {
            for code in 400..600 {
                assert_ne!(class(phase, &code.to_string()), Class::Unknown, "{phase:?} {code}");
            }
        }
    }
}
