//! Foreign words, made fit to be shown: short, and without what must not show.

/// Bytes of a foreign answer that are quoted.
const QUOTE_MAX: usize = 200;

/// So many bytes in a row out of a text are taken for a piece of it, cut or mangled on the way.
const PIECE_OF_TEXT: usize = 12;

/// The same for a secret.
const PIECE_OF_SECRET: usize = 8;

/// The beginning of what a gateway wrote, without the secrets and without the SMS text (given in each form
/// in which it may come back), pieces of them included. Escaping is left to [`crate::dispatch::SubmitError::new`], which escapes everything.
pub fn quote(foreign: &[u8], secrets: &[String], texts: &[String]) -> String {
    let foreign = String::from_utf8_lossy(foreign);
    let mut quoted = String::new();
    let mut rest = foreign.trim();
    let mut before = None;
    while let Some(c) = rest.chars().next() {
        if quoted.len() >= QUOTE_MAX {
            quoted.push('…');
            break;
        }
        let longest =
            |of: &[String], least| of.iter().map(|s| common(rest, s, least, before)).max().unwrap_or(0);
        let (secret, piece) = (longest(secrets, PIECE_OF_SECRET), longest(texts, PIECE_OF_TEXT));
        let (skip, shown) = if secret > 0 && secret >= piece {
            (secret, "<secret>")
        } else if piece > 0 {
            (piece, "<text>")
        } else {
            (c.len_utf8(), "")
        };
        let (taken, left) = rest.split_at(skip);
        quoted.push_str(if shown.is_empty() { taken } else { shown });
        before = taken.chars().next_back();
        rest = left;
    }
    quoted
}

/// The length of the longest beginning of `rest` that is a piece of `hidden` of at least `least` bytes, or
/// the whole of it; else 0. What is shorter than four bytes counts only as a word of its own: `1` is no
/// secret inside `401`.
fn common(rest: &str, hidden: &str, least: usize, before: Option<char>) -> usize {
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut longest = 0;
    for (start, _) in hidden.char_indices() {
        let piece = hidden.get(start..).unwrap_or_default();
        let mut same = rest.bytes().zip(piece.bytes()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
        while !rest.is_char_boundary(same) {
            same -= 1;
        }
        let whole = start == 0 && same == hidden.len();
        let stands_alone = hidden.len() >= 4
            || !(word(before) || word(rest.get(same..).and_then(|after| after.chars().next())));
        if same >= least || (whole && stands_alone) {
            longest = longest.max(same);
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(foreign: &str, secrets: &[&str], text: &str) -> String {
        quote(
            foreign.as_bytes(),
            &secrets.iter().map(|s| s.to_string()).collect::<Vec<_>>(),
            &[text.to_string()],
        )
    }

    #[test]
    fn secrets_and_texts_are_taken_out() {
        let secrets = ["hunter2-the-second", "p%40ss", "abc", "1"];
        for (foreign, want) in [
            ("bad password hunter2-the-second for nav", "bad password <secret> for nav"),
            ("HUNTER2-the-second", "<secret>"),
            ("cut: hunter2-the-s", "cut: <secret>"),
            ("cut: the-second!", "cut: <secret>!"),
            ("p%40SS, abc, abcd, 401, 1.", "<secret>, <secret>, abcd, 401, <secret>."),
            ("can not send \"Router gw1 is down\"", "can not send \"<text>\""),
            ("<b>gw1 is down &amp;", "<b>gw1 is down &amp;"),
            ("  \n ", ""),
            ("æøå", "æøå"),
        ] {
            assert_eq!(shown(foreign, &secrets, "Router gw1 is down"), want);
        }
        assert_eq!(quote(b"\xff\0ok", &[], &[]), "\u{fffd}\0ok");
    }

    #[test]
    fn it_is_short_and_never_ends_in_a_secret() {
        let secret = "0123456789abcdef";
        for pad in 150..=220 {
            let quoted = shown(&format!("{}{secret}{}", "x".repeat(pad), "y".repeat(900)), &[secret], "");
            assert!(quoted.len() <= QUOTE_MAX + "<secret>…".len(), "{quoted}");
            assert!(!quoted.contains("0123"), "{quoted}");
        }
        let quoted = shown(&secret.repeat(5000), &[secret], "");
        assert!(quoted.len() <= QUOTE_MAX + 20 && !quoted.contains("0123"), "{quoted}");
    }
}
