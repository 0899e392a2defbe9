//! Whom an alert is for: numbers, and groups of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::alert::{Phone, PhoneError};
use crate::telemetry::clip;

/// The numbers that these words name (a number, or `group:NAME`), each once, in order: all of them, or the first bad one.
///
/// # Errors
/// See [`RecipientError`].
pub fn recipients<'a>(
    words: impl IntoIterator<Item = &'a str>,
    groups: &BTreeMap<String, Vec<Phone>>,
) -> Result<Vec<Phone>, RecipientError> {
    let mut phones = Vec::new();
    for word in words.into_iter().map(str::trim) {
        match word.strip_prefix("group:") {
            Some(name) => {
                let group = groups.get(name).ok_or_else(|| RecipientError::NoGroup {
                    name: shown(name),
                    known: groups.keys().cloned().collect(),
                })?;
                phones.extend_from_slice(group);
            }
            None => phones
                .push(Phone::parse(word).map_err(|why| RecipientError::Number { word: shown(word), why })?),
        }
    }
    let mut seen = BTreeSet::new();
    phones.retain(|p| seen.insert(p.clone()));
    if phones.is_empty() { Err(RecipientError::Nobody) } else { Ok(phones) }
}

fn shown(word: &str) -> String {
    let mut word = word.to_owned();
    clip(&mut word, 64);
    word
}

/// What is wrong with the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// Not a number.
    #[error("{word:?}: {why}")]
    Number {
        /// The word, cut.
        word: String,
        /// What is wrong with it.
        why: PhoneError,
    },
    /// Not a group.
    #[error("group:{name}: no such group; {}", groups(.known))]
    NoGroup {
        /// The name, cut.
        name: String,
        /// The groups that there are.
        known: Vec<String>,
    },
    /// No words, or only empty groups.
    #[error("nobody is named")]
    Nobody,
}

fn groups(known: &[String]) -> String {
    match known {
        [] => "[groups] of smsd.conf has none".to_owned(),
        known => format!("[groups] of smsd.conf has {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_numbers_or_none_each_once() {
        let phone = |s| Phone::parse(s).unwrap();
        let groups = BTreeMap::from([("noc".to_owned(), vec![phone("+4790000001"), phone("+4790000002")])]);
        let to = |words: &[&str]| recipients(words.iter().copied(), &groups);
        assert_eq!(
            to(&["+47 90 00 00 02", "group:noc", "112"]).unwrap(),
            [phone("+4790000002"), phone("+4790000001"), phone("112")]
        );
        for bad in [&["112", "+47 abc"][..], &["group:nok"], &[""], &["112", "group:"], &[]] {
            assert!(to(bad).is_err(), "{bad:?}");
        }
        assert!(to(&["group:nok"]).unwrap_err().to_string().contains("noc"));
    }
}
