//! One SMS text out of all that waits for one recipient.
//!
//! NAV's format, so that people who know it see no change: one alert → its text; several →
//! `1: first; 2: second`, and ` +N see web.` when N do not fit. Two rules decide how many fit:
//!
//! - **NAV's room.** In one segment NAV takes alerts while the text stays under 160 − 15 characters, or under
//!   160 with the last of them. That room is kept, so that whatever NAV sends in one SMS goes out here to the
//!   letter. It does not bind where NAV would carry nothing, nor with `max_segments` > 1 or `overflow: next`,
//!   which NAV does not have.
//! - **The network's room.** What goes out, with prefix and count, is measured as the network measures it, and
//!   takes at most `max_segments` segments. Always.
//!
//! Of all ways to write the SMS (as it stands, with plain punctuation, fully transliterated, each in GSM 03.38
//! if that has all its characters, else in UCS-2) the one wins that carries most alerts whole; then the one with
//! the fewest segments; then the one that changes least. So an alert in UCS-2 is left out if it would push out
//! two that stand before it, and a transliteration is used only where it saves a segment. No alert is
//! skipped for a later one: they come most severe first.
//!
//! With `compose: digest` alerts are rather shortened than left out. With `overflow: severe` those that are severe are never
//! only counted: who composes says how many of the first are ([`compose_sparing`]).
//!
//! If not even the first fits, it is cut with `...` and sent, in the way that tells most of it. An alert without
//! text is sent too; where the SMS would be blank, it says `(empty alert)`, since gateways refuse an empty SMS.
//!
//! ```
//! use smsd::alert::AlertId;
//! use smsd::compose::{Shape, compose};
//!
//! let alerts = [(AlertId(7), "boxDown oslo-gw1"), (AlertId(8), "linkDown Gi1/0/24")];
//! let composed = compose(&alerts, &Shape::default());
//! assert_eq!(composed.text, "1: boxDown oslo-gw1; 2: linkDown Gi1/0/24");
//! assert_eq!(composed.sent, [AlertId(7), AlertId(8)]);
//!
//! // What does not fit is counted; with `compose: digest` rather shortened.
//! use smsd::config::Style;
//! let long = "linkDown on Gi1/0/24 towards the building that nobody has ever heard the name of, since midnight";
//! let storm = [(AlertId(1), long), (AlertId(2), long), (AlertId(3), long)];
//! let nav = compose(&storm, &Shape::default());
//! assert_eq!((nav.text, nav.sent.len(), nav.ignored.len()), (format!("{long} +2 see web."), 1, 2));
//! let digest = compose(&storm, &Shape { style: Style::Digest, ..Shape::default() });
//! assert_eq!((digest.sent.len(), digest.ignored.len(), digest.segments), (3, 0, 1));
//! ```

mod digest;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt::Write;

use serde::Serialize;
use unicode_segmentation::UnicodeSegmentation;

use crate::alert::AlertId;
use crate::config::{EncodingChoice, Main, Overflow, Style};
use crate::sms::transliterate::{self, Transliterate};
use crate::sms::{self, Encoding, Measure, gsm7};

/// What an SMS may look like: `[main]`'s keys, narrowed to the enabled dispatchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What is told when not all fit; only with [`Overflow::Ignore`], else what does not fit comes next.
    pub style: Style,
    /// Segments at most, 1 to 255; 0 means 1.
    pub max_segments: u8,
    /// What becomes of alerts that do not fit.
    pub overflow: Overflow,
    /// Which encodings may be used.
    pub encoding: EncodingChoice,
    /// What may be replaced to save segments; with [`EncodingChoice::Gsm7`] everything is that must be.
    pub transliterate: Transliterate,
    /// Put before each SMS, and left out of one in which it leaves no room for any text.
    pub prefix: String,
    /// Where people read what is only counted.
    pub web: String,
}

impl Default for Shape {
    /// As `[main]` without keys.
    fn default() -> Self {
        Shape::of(&Main::default())
    }
}

impl Shape {
    /// As `[main]` says.
    pub fn of(main: &Main) -> Shape {
        Shape {
            style: main.compose,
            max_segments: main.max_segments,
            overflow: main.overflow,
            encoding: main.encoding,
            transliterate: main.transliterate,
            prefix: main.prefix.clone(),
            web: main.web_address.clone(),
        }
    }
}

/// One SMS and what became of each alert that was to go into it: each stands in exactly one of the lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Composed {
    /// The text.
    #[serde(rename = "sms")]
    pub text: String,
    /// The alerts whose text it carries.
    pub sent: Vec<AlertId>,
    /// The alerts that it only counts.
    pub ignored: Vec<AlertId>,
    /// The alerts that wait for the next SMS (`overflow: next`, and the severe ones with `overflow: severe`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<AlertId>,
    /// How the network carries it.
    pub encoding: Encoding,
    /// In how many parts; 0 if no alert came in, and so there is no SMS.
    pub segments: usize,
    /// Its length: septets (GSM 03.38) or 16-bit units (UCS-2), headers of parts not counted.
    pub units: usize,
}

impl Composed {
    /// No SMS, of no alerts.
    fn nothing() -> Composed {
        let (sent, ignored, left) = Default::default();
        Composed { text: String::new(), sent, ignored, left, encoding: Encoding::Gsm7, segments: 0, units: 0 }
    }
}

/// Makes one SMS of `alerts`, which come in the order in which they are told, most severe first.
///
/// Of any alerts at least the first is sent, at least in part; the lists `sent`, `left` and `ignored` one after
/// the other are the ids of `alerts`; of no alerts no SMS is made. The cost is that of as many alerts as could ever fit, and
/// of copying the other ids.
pub fn compose(alerts: &[(AlertId, &str)], shape: &Shape) -> Composed {
    compose_sparing(alerts, shape, 0)
}

/// The same; with [`Overflow::Severe`] so many of the first are not to be only counted: what does not fit of them is left
/// for the next SMS.
pub fn compose_sparing(alerts: &[(AlertId, &str)], shape: &Shape, severe: usize) -> Composed {
    if alerts.is_empty() {
        return Composed::nothing();
    }
    let mut draft = Draft::new(alerts, shape, severe);
    let mut best = draft.best();
    if !draft.prefix.is_empty() && (best.tells == 0 || !draft.fits(&best.measure)) {
        draft.prefix = Cow::Borrowed("");
        best = draft.best();
    }
    let ids = |part: &[(AlertId, &str)]| part.iter().map(|(id, _)| *id).collect();
    let (sent, rest) = alerts.split_at(best.alerts);
    let (left, ignored) = rest.split_at(rest.len() - draft.counts(sent.len()));
    Composed {
        text: best.text,
        sent: ids(sent),
        ignored: ids(ignored),
        left: ids(left),
        encoding: best.measure.encoding,
        segments: best.measure.segments,
        units: best.measure.units,
    }
}

/// The SMS as it may be written in several ways.
struct Draft<'a> {
    prefix: Cow<'a, str>,
    /// The texts, cleaned, of as many alerts as could ever fit.
    texts: Vec<Cow<'a, str>>,
    /// How many alerts there are in all.
    total: usize,
    /// So many of the first are not to be only counted.
    severe: usize,
    /// Segments at most.
    segments: usize,
    shape: &'a Shape,
}

/// One way to write it.
struct Candidate {
    text: String,
    measure: Measure,
    /// How many alerts it carries.
    alerts: usize,
    /// Bytes of the first alert that it tells, all ([`WHOLE`]) unless that one is cut.
    tells: usize,
}

const WHOLE: usize = usize::MAX;

/// What stands for an alert without text.
const EMPTY: &str = "(empty alert)";

impl Candidate {
    /// The greater the better.
    fn rank(&self) -> (usize, usize, Reverse<usize>) {
        (self.alerts, self.tells, Reverse(self.measure.segments))
    }
}

impl<'a> Draft<'a> {
    fn new(alerts: &[(AlertId, &'a str)], shape: &'a Shape, severe: usize) -> Draft<'a> {
        let clean = |text: &'a str| match (sms::clean(text), shape.encoding) {
            (text, EncodingChoice::Auto | EncodingChoice::Ucs2) => text,
            (text, EncodingChoice::Gsm7) => forced(text),
        };
        let segments = usize::from(shape.max_segments.max(1));
        // The least that an alert takes is `; 2: `.
        let most = 2 + segments * Encoding::Gsm7.single() / "; 2: ".len();
        Draft {
            prefix: clean(&shape.prefix),
            texts: alerts.iter().take(most).map(|(_, text)| clean(text)).collect(),
            total: alerts.len(),
            severe,
            segments,
            shape,
        }
    }

    /// The best of all ways, the first of equals.
    fn best(&self) -> Candidate {
        let best = self.best_whole();
        let whole = if best.tells == WHOLE { best.alerts } else { 0 };
        let digests = self.shape.style == Style::Digest && self.shape.overflow != Overflow::Next;
        if !digests || whole == self.total {
            return best;
        }
        let texts = self.shortenings();
        let digests = self.degrees().filter_map(|degree| self.digest(degree, whole, &texts));
        digests.fold(best, better_of)
    }

    /// The best of those that tell alerts whole, or cut the first.
    fn best_whole(&self) -> Candidate {
        let most = self.most();
        let mut best: Option<Candidate> = None;
        for degree in self.degrees() {
            let Some(next) = self.whole(degree, most) else { continue };
            // All fit without a change that could save anything.
            if next.alerts == most && next.measure.encoding == Encoding::Gsm7 && best.is_none() {
                return next;
            }
            best = better(best, next);
        }
        best.unwrap_or_else(|| {
            let mut best = self.cut(Transliterate::None);
            for degree in self.degrees().skip(1) {
                best = better_of(best, self.cut(degree));
            }
            best
        })
    }

    /// What may be replaced, the least change first.
    fn degrees(&self) -> impl Iterator<Item = Transliterate> {
        let most = match self.shape.encoding {
            EncodingChoice::Auto => self.shape.transliterate,
            // Forced GSM 03.38 has been transliterated already; in UCS-2 it would not pay.
            EncodingChoice::Gsm7 | EncodingChoice::Ucs2 => Transliterate::None,
        };
        most.up_to()
    }

    /// At most so many alerts may be told: by NAV's room, or else by the network's at one unit a character.
    fn most(&self) -> usize {
        let single = Encoding::Gsm7.single();
        if self.segments == 1 && self.shape.overflow == Overflow::Ignore {
            let nav = self.walk(single - 15 - 1, single - 1);
            if nav > 0 {
                return nav;
            }
        }
        let room = self.segments * single;
        self.walk(room, room).max(1)
    }

    /// How many alerts stay within `room` characters, or within `last` with the last of them.
    fn walk(&self, room: usize, last: usize) -> usize {
        let mut chars = self.prefix.chars().count();
        for (i, text) in self.texts.iter().enumerate() {
            chars += text.chars().count()
                + match i {
                    0 => 0,
                    1 => "1: ; 2: ".len(),
                    _ => "; : ".len() + digits(i + 1),
                };
            if chars > if i + 1 == self.total { last } else { room } {
                return i;
            }
        }
        self.texts.len()
    }

    /// As many alerts as fit whole, at most `most`; `None` if not even the first does.
    fn whole(&self, degree: Transliterate, most: usize) -> Option<Candidate> {
        largest(1, most, |alerts| self.fitting(self.candidate(degree, alerts, WHOLE)))
    }

    /// The first alert alone, with as much of it as fits before `...`. Without a prefix it always fits and always
    /// tells something in UCS-2, since no grapheme cluster is longer than [`sms::clean::CLUSTER_MAX`].
    fn cut(&self, degree: Transliterate) -> Candidate {
        let text = self.texts.first().map_or("", |text| text);
        let bounded = self.segments * Encoding::Gsm7.single();
        let ends: Vec<usize> = text.grapheme_indices(true).map(|(at, _)| at).take(bounded).skip(1).collect();
        largest(1, ends.len(), |n| {
            let end = ends.get(n - 1).copied()?;
            self.fitting(self.candidate(degree, 1, end))
        })
        .unwrap_or_else(|| self.candidate(degree, 1, 0))
    }

    fn candidate(&self, degree: Transliterate, alerts: usize, tells: usize) -> Candidate {
        self.measured(degree, self.write(alerts, tells), alerts, tells)
    }

    fn measured(&self, degree: Transliterate, text: String, alerts: usize, tells: usize) -> Candidate {
        let text = match degree.of(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(near) => near,
        };
        let ucs2 = match self.shape.encoding {
            EncodingChoice::Ucs2 => sms::measure_as(&text, Encoding::Ucs2),
            EncodingChoice::Auto | EncodingChoice::Gsm7 => None,
        };
        let measure = ucs2.unwrap_or_else(|| sms::measure(&text));
        Candidate { text, measure, alerts, tells }
    }

    /// The text that carries so many alerts, and of the first so many bytes.
    fn write(&self, alerts: usize, tells: usize) -> String {
        match (alerts, self.texts.first()) {
            (1, Some(only)) => match only.get(..tells) {
                Some(head) => self.counted(format!("{}{head}...", self.prefix), 1),
                None if sms::is_blank(only) => self.counted(format!("{}{EMPTY}", self.prefix), 1),
                None => self.counted(format!("{}{only}", self.prefix), 1),
            },
            _ => self.numbered(self.texts.get(..alerts).unwrap_or_default()),
        }
    }

    /// Several texts, or what is told of each.
    fn numbered(&self, texts: &[Cow<'_, str>]) -> String {
        let mut out = String::from(&*self.prefix);
        match texts {
            [only] => out.push_str(only),
            several => {
                for (i, text) in several.iter().enumerate() {
                    let between = if i == 0 { "" } else { "; " };
                    // Writing to a String never fails.
                    let _ = write!(out, "{between}{}: {text}", i + 1);
                }
            }
        }
        self.counted(out, texts.len())
    }

    /// With the count of those that are not told.
    fn counted(&self, mut text: String, told: usize) -> String {
        match self.counts(told) {
            0 => {}
            rest => _ = write!(text, " +{rest} see {}.", self.shape.web),
        }
        text
    }

    /// How many alerts an SMS counts that tells so many.
    fn counts(&self, told: usize) -> usize {
        match self.shape.overflow {
            Overflow::Ignore => self.total - told,
            Overflow::Severe => self.total - told.max(self.severe.min(self.total)),
            Overflow::Next => 0,
        }
    }

    fn fitting(&self, candidate: Candidate) -> Option<Candidate> {
        self.fits(&candidate.measure).then_some(candidate)
    }

    fn fits(&self, measure: &Measure) -> bool {
        measure.segments <= self.segments
    }
}

/// The better of two, the first of equals.
fn better(best: Option<Candidate>, next: Candidate) -> Option<Candidate> {
    Some(match best {
        Some(best) => better_of(best, next),
        None => next,
    })
}

fn better_of(best: Candidate, next: Candidate) -> Candidate {
    if next.rank() > best.rank() { next } else { best }
}

/// What `try_it` makes of the largest number from `low` to `high` that it makes anything of, where it makes
/// something of every smaller one. The largest is tried first, since all mostly fits.
fn largest<T>(mut low: usize, mut high: usize, try_it: impl Fn(usize) -> Option<T>) -> Option<T> {
    if high < low {
        return None;
    }
    let mut best = try_it(high);
    if best.is_some() {
        return best;
    }
    high -= 1;
    while low <= high {
        let middle = low + (high - low) / 2;
        match try_it(middle) {
            Some(found) => {
                best = Some(found);
                low = middle + 1;
            }
            None => high = middle - 1,
        }
    }
    best
}

/// The text in GSM 03.38 whatever it costs.
fn forced(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.chars().all(gsm7::has) {
        return text;
    }
    Cow::Owned(gsm7::force(&transliterate::full(&text)).into_owned())
}

fn digits(n: usize) -> usize {
    n.checked_ilog10().map_or(1, |log| log as usize + 1)
}
