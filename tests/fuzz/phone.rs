//! Numbers: whatever is accepted is one that can go out, and reads the same a second time.

use smsd::alert::Phone;

/// The input is the number.
pub(crate) fn run(data: &[u8]) {
    let raw = String::from_utf8_lossy(data);
    match Phone::parse(&raw) {
        Ok(phone) => {
            let digits = phone.as_str().strip_prefix('+').unwrap_or(phone.as_str());
            assert!((3..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()));
            assert_eq!(Phone::parse(phone.as_str()), Ok(phone.clone()));
            let spaced: String = raw.chars().flat_map(|c| [c, ' ']).collect();
            assert_eq!(Phone::parse(&spaced), Ok(phone));
        }
        // The words may show what was found, but nothing that a terminal would obey.
        Err(why) => assert!(!why.to_string().contains(char::is_control), "{why}"),
    }
}
