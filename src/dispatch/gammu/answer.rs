//! What a run of `gammu sendsms` means.
//!
//! gammu ends with 100 and the code of its library, and says on its standard output, for each part, `Sending SMS 1/2`,
//! `…waiting for network answer` and `..OK, message reference=7` or `..error 38, message reference=-1`. What goes into
//! a pipe may come late, and never if it crashes; but before the first part goes to the phone it writes to standard
//! error, which is not held back, how one breaks it off. So a run of which all was heard, and in which neither stands,
//! has certainly not begun to send, however it ended; of one that was killed, that holds only for versions that are known
//! to say so ([`is_known`]). (A `command` that is not gammu itself must hand on what gammu
//! says, and end with it.)

use super::codes::{Code, Codes};
use crate::dispatch::quote::quote;
use crate::dispatch::status::Status;
use crate::dispatch::{Class, Receipt, SubmitError};
use crate::os::child::{Ended, Run};

/// Before each part.
const SENDING: &str = "Sending SMS ";

/// On standard error, before the first part.
const BEGINNING: &str = "If you want break";

/// The versions that are known to write [`BEGINNING`] before the first part, unbuffered: major and minor.
const KNOWN: [(u32, u32); 1] = [(1, 42)];

/// Between what the phone was given and what the network says of it.
const WAITING: &str = "waiting for network answer";

/// On standard output, where neither a gammurc nor its section is found.
const NO_CONFIGURATION: &str = "No configuration read, using builtin defaults";

/// One run, for one text.
pub(super) struct Answer<'a> {
    pub(super) run: &'a Run,
    pub(super) codes: &'a Codes,
    pub(super) text: &'a str,
    /// It is of a version that is known to say when it begins.
    pub(super) tells: bool,
}

/// Is what `gammu --version` says a version that is known? `None` if it names none.
pub(super) fn is_known(said: &str) -> Option<bool> {
    let (_, version) = said.split_once("Gammu version ")?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next()?, numbers.next()?) {
        (Ok(major), Ok(minor)) => Some(KNOWN.contains(&(major, minor))),
        _ => None,
    }
}

impl Answer<'_> {
    /// Was the SMS taken, and if not, what follows?
    ///
    /// What was said of every part counts, however the run ended: a phone that hangs when it is closed has taken what
    /// it has taken. If some parts were taken, the phone at the other end may show them, and the next attempt is a
    /// possible duplicate.
    pub(super) fn judge(&self) -> Result<Receipt, SubmitError> {
        let output = String::from_utf8_lossy(&self.run.stdout);
        let said = Said::read(&output);
        if said.all_taken() {
            return Ok(said.receipt());
        }
        let code = said.refusal().or_else(|| self.ended_with());
        let begun = !self.certainly_not_begun();
        let class = match code.map(|code| self.codes.of(code)) {
            // The operator's word, since the table has none.
            Some(Status::Accepted) if begun && said.is_at_its_last_part() => return Ok(said.receipt()),
            Some(Status::Accepted) => Class::Unknown,
            Some(Status::Refused(class)) => class,
            None => self.class_without_a_code(begun),
        };
        let class = match class {
            _ if !begun && output.contains(NO_CONFIGURATION) => Class::Misconfigured,
            // The phone knows nothing of the SMS yet: it can not be its fault.
            Class::Unknown | Class::Rejected if !begun => Class::Unavailable,
            Class::Unknown => Class::Unknown,
            _ if begun && !self.run.whole => Class::Unknown,
            _ if said.taken() > 0 => Class::Failed,
            class => class,
        };
        let when = match (said.taken(), begun) {
            (0, true) => "",
            (0, false) => " before it sent anything",
            (_, _) => ", after some of the parts were sent",
        };
        Err(self.error(class, code, when))
    }

    /// How a run ended that sends nothing, if badly.
    pub(super) fn ended_well_enough(&self) -> Result<(), (Option<Code>, SubmitError)> {
        if self.run.ended == Ended::Exit(0) {
            return Ok(());
        }
        let code = self.ended_with();
        let class = match code.map(|code| self.codes.of(code)) {
            _ if String::from_utf8_lossy(&self.run.stdout).contains(NO_CONFIGURATION) => Class::Misconfigured,
            Some(Status::Refused(Class::Unknown | Class::Rejected) | Status::Accepted) => Class::Unavailable,
            Some(Status::Refused(class)) => class,
            None => self.class_without_a_code(false),
        };
        Err((code, self.error(class, code, "")))
    }

    /// The code of its library that it ended with.
    fn ended_with(&self) -> Option<Code> {
        match self.run.ended {
            Ended::Exit(code @ 101..=254) => u32::try_from(code - 100).ok().map(Code::Gammu),
            _ => None,
        }
    }

    /// It ended by a signal, when its time was up, well without a word, or with a code that is not its library's.
    fn class_without_a_code(&self, begun: bool) -> Class {
        match self.run.ended {
            _ if begun => Class::Unknown,
            // It does not know how it was called, or is not of one version with its library.
            Ended::Exit(2 | 98 | 255) => Class::Misconfigured,
            _ => Class::Unavailable,
        }
    }

    /// Has it certainly not begun to send? One that ends by itself without a word is not gammu, which says why.
    fn certainly_not_begun(&self) -> bool {
        let Run { ended, stdout, stderr, whole } = self.run;
        let says = |stream: &[u8], words: &str| stream.windows(words.len()).any(|w| w == words.as_bytes());
        let begins = |stream| says(stream, BEGINNING) || says(stream, SENDING);
        let speaks = !(stdout.is_empty() && stderr.is_empty());
        *whole
            && !begins(stdout)
            && !begins(stderr)
            && match ended {
                Ended::Exit(0) => false,
                Ended::Exit(_) => speaks,
                Ended::Signal(_) | Ended::Late => self.tells,
            }
    }

    fn error(&self, class: Class, code: Option<Code>, when: &str) -> SubmitError {
        let shown = match (code, self.run.ended) {
            (Some(code), _) => Some(code.to_string()),
            (None, Ended::Exit(code)) => Some(format!("exit {code}")),
            (None, Ended::Signal(signal)) => Some(format!("signal {signal}")),
            (None, Ended::Late) => None,
        };
        let how = match (code, self.run.ended) {
            (Some(Code::Cms(_)), _) => format!(
                "the network or the phone answered {}{}",
                shown.as_deref().unwrap_or_default(),
                code.and_then(Code::row).map(|row| format!(" ({})", row.name)).unwrap_or_default()
            ),
            (_, Ended::Late) => "gammu was not done when the time was up".to_string(),
            (_, Ended::Signal(signal)) => format!("gammu was ended by signal {signal}"),
            (Some(_), Ended::Exit(_)) => {
                format!("gammu ended with {}", shown.as_deref().unwrap_or_default())
            }
            (None, Ended::Exit(0)) => "gammu ended well, but did not say that the SMS was sent".to_string(),
            (None, Ended::Exit(code)) => format!("gammu ended with exit code {code}"),
        };
        let words = self.last_words();
        let colon = if words.is_empty() { "" } else { ": " };
        let hint = match class == Class::Misconfigured
            && String::from_utf8_lossy(&self.run.stdout).contains(NO_CONFIGURATION)
        {
            true => {
                "; it found no configuration: write /etc/gammurc or ~/.gammurc, or set config and section"
            }
            false => "",
        };
        let error = SubmitError::new(class, format!("{how}{when}{hint}{colon}{words}"));
        match shown {
            Some(code) => error.code(code),
            None => error,
        }
    }

    /// The last line that it wrote, which is where it says what was wrong.
    fn last_words(&self) -> String {
        let hidden: Vec<String> =
            std::iter::once(self.text).chain(self.text.lines()).map(String::from).collect();
        let last = |stream: &[u8]| {
            let stream = String::from_utf8_lossy(stream);
            let mut lines = stream.lines().map(str::trim).filter(|line| !line.is_empty());
            let line = lines.rfind(|line| !line.contains(BEGINNING) && !line.contains(SENDING))?;
            Some(quote(line.as_bytes(), &[], &hidden))
        };
        last(&self.run.stdout).or_else(|| last(&self.run.stderr)).unwrap_or_default()
    }
}

/// What it said of the parts of an SMS.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// The parts that it began with, in order.
    parts: Vec<Part>,
    /// How many there are.
    of: usize,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// With the network's reference, if it gave one.
    Taken(Option<u32>),
    /// With a code, and whether the phone had the whole of it by then.
    Refused(i64, bool),
    /// Nothing more was said.
    Open,
}

impl Said {
    /// Reads standard output. What does not count up from one is no answer of gammu's, and ends it.
    fn read(output: &str) -> Said {
        let mut said = Said::default();
        for piece in output.split(SENDING).skip(1) {
            let Some((index, of, rest)) = counted(piece) else { break };
            if index != said.parts.len() + 1 || index > of || (said.of != 0 && said.of != of) {
                break;
            }
            said.of = of;
            said.parts.push(part(rest));
        }
        said
    }

    fn taken(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part, Part::Taken(_))).count()
    }

    fn all_taken(&self) -> bool {
        self.of > 0 && self.taken() == self.of
    }

    fn is_at_its_last_part(&self) -> bool {
        self.of > 0 && self.parts.len() == self.of
    }

    fn receipt(&self) -> Receipt {
        let reference = |part: &Part| if let Part::Taken(reference) = part { *reference } else { None };
        Receipt { references: self.parts.iter().filter_map(reference).map(|n| n.to_string()).collect() }
    }

    /// The code of the part that was refused, if it is the network's. Before the phone has the text no network can
    /// refuse it: numbers below 300 are the phone's own then (`+CME ERROR`, of which gammu shows the number alone) or
    /// its maker's, and so are those from 512; what they mean only the code knows that gammu ends with.
    fn refusal(&self) -> Option<Code> {
        self.parts.iter().find_map(|part| match part {
            Part::Refused(n @ 1.., waited) if *waited || (300..512).contains(n) => {
                u32::try_from(*n).ok().map(Code::Cms)
            }
            _ => None,
        })
    }
}

/// `1/2` and what comes after it.
fn counted(piece: &str) -> Option<(usize, usize, &str)> {
    let (index, rest) = piece.split_once('/')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (of, rest) = rest.split_at(end);
    let number = |digits: &str| digits.parse::<u8>().ok().filter(|n| *n > 0).map(usize::from);
    Some((number(index)?, number(of)?, rest))
}

fn part(said: &str) -> Part {
    if let Some((_, after)) = said.split_once("..OK, message reference=") {
        return Part::Taken(leading(after).and_then(|n| u32::try_from(n).ok()));
    }
    let Some((before, after)) = said.split_once("..error ") else { return Part::Open };
    leading(after).map_or(Part::Open, |code| Part::Refused(code, before.contains(WAITING)))
}

/// The number at the beginning.
fn leading(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    text.get(..text.len() - digits.len() + end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_version_that_was_read_is_known() {
        for (said, known) in [
            ("Warning: No configuration file found!\n[Gammu version 1.42.0]\n\nCopyright", Some(true)),
            ("[Gammu version 1.42.1 built 10:00:00]", Some(true)),
            ("[Gammu version 1.43.0]", Some(false)),
            ("[Gammu version 1.4.20]", Some(false)),
            ("[Gammu version 2.42]", Some(false)),
            ("[Gammu version trunk]", None),
            ("gammu 1.42", None),
            ("", None),
        ] {
            assert_eq!(is_known(said), known, "{said}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_read_and_none_of_them_is_an_ok_too_many(
            words in "(Sending SMS |[0-9]{1,4}/[0-9]{1,4}|1/2|2/2|\\.\\.OK, message reference=|\\.\\.error |-|[0-9]{1,25}|\\PC|\n){0,40}"
        ) {
            let said = Said::read(&words);
            prop_assert!(said.parts.len() <= said.of);
            prop_assert!(said.taken() <= words.matches("..OK, message reference=").count());
            prop_assert!(said.receipt().references.len() <= said.taken());
            let run = Run { ended: Ended::Exit(0), stdout: words.clone().into(), stderr: vec![], whole: true };
            let judged = Answer { run: &run, codes: &Codes::default(), text: &words, tells: true }.judge();
            prop_assert_eq!(judged.is_ok(), said.all_taken());
        }
    }
}
