//! Files of the spool folder: any octets are read or refused, within bounds, and words of ours stay words.

use std::collections::BTreeMap;

use smsd::alert::Severity;
use smsd::intake::spool::Charset;
use smsd::intake::spool::letter::{Reading, parse};

pub(crate) fn run(data: &[u8]) {
    for charset in [Charset::Latin9, Charset::Utf8, Charset::Gsm, Charset::Ucs2] {
        for international in [true, false] {
            let reading =
                Reading { charset, international, severity: Severity(None), groups: &BTreeMap::new() };
            match parse(data, &reading) {
                Ok(letter) => {
                    assert!(!letter.to.is_empty() && !letter.text.trim().is_empty());
                    assert!(letter.text.len() <= 3 * data.len(), "{} of {}", letter.text.len(), data.len());
                }
                Err(why) => assert!(!why.to_string().contains('\n'), "{why}"),
            }
        }
    }
}
