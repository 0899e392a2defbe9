//! Foreign words, made fit to be shown: short, and without what must not show.

/// Bytes of a foreign answer that are quoted.
const QUOTE_MAX: usize = 200;

/// So many bytes in a row out of a text are taken for a piece of it, cut or mangled on the way.
const PIECE_OF_TEXT: usize = 12;

/// The same for a secret.
const PIECE_OF_SECRET: usize = 8;

/// So much of a foreign answer is decoded: what is quoted stands before that.
const DECODED_MAX: usize = 8 * 1024;

/// The beginning of what a gateway wrote, without the secrets and without the SMS text (given in each form
/// in which it may come back), pieces of them included. Escaping is left to [`crate::dispatch::SubmitError::new`], which escapes everything.
///
/// Where a secret stands in what was written only after it is decoded, nothing is quoted: a gateway has many ways to write
/// a letter, and none of them is worth a secret.
pub fn quote(foreign: &[u8], secrets: &[String], texts: &[String]) -> String {
    let foreign = String::from_utf8_lossy(foreign);
    if hides(&foreign, secrets) {
        return "<secret>".to_owned();
    }
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

/// Does a secret stand in this when it is decoded, and not before?
fn hides(foreign: &str, secrets: &[String]) -> bool {
    let mut end = foreign.len().min(DECODED_MAX);
    while !foreign.is_char_boundary(end) {
        end -= 1;
    }
    let foreign = foreign.get(..end).unwrap_or_default();
    let Some(decoded) = decoded(foreign) else { return false };
    let (foreign, decoded) = (foreign.to_lowercase(), decoded.to_lowercase());
    secrets.iter().filter(|secret| secret.len() >= 4).any(|secret| {
        let secret = secret.to_lowercase();
        decoded.matches(&secret).count() > foreign.matches(&secret).count()
    })
}

/// What was written with `%41`, `\u0041`, `&#65;` and `&#x41;` for letters, `-` and `_` for `+` and `/` of base64, and with white
/// space and NUL between them; `None` if nothing was.
fn decoded(foreign: &str) -> Option<String> {
    let (mut decoded, mut rest, mut coded) = (Vec::with_capacity(foreign.len()), foreign, false);
    let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
    while let Some(c) = rest.chars().next() {
        let entity = || {
            let (digits, after) =
                rest.strip_prefix("&#")?.split_once(';').filter(|(digits, _)| digits.len() <= 8)?;
            let found = match digits.strip_prefix(['x', 'X']) {
                Some(digits) => number(digits, 16),
                None => number(digits, 10),
            };
            Some((found?.to_string().into_bytes(), after))
        };
        let escape = || {
            let (digits, after) = rest.strip_prefix("\\u")?.split_at_checked(4)?;
            Some((number(digits, 16)?.to_string().into_bytes(), after))
        };
        let percent = || {
            let (digits, after) = rest.strip_prefix('%')?.split_at_checked(2)?;
            Some((vec![u8::from_str_radix(digits, 16).ok()?], after))
        };
        if let Some((bytes, after)) = entity().or_else(escape).or_else(percent) {
            decoded.extend(bytes);
            rest = after;
            coded = true;
            continue;
        }
        match c {
            '-' => decoded.push(b'+'),
            '_' => decoded.push(b'/'),
            c if c == '\0' || c.is_whitespace() => {}
            c => decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        coded |= matches!(c, '-' | '_' | '\0') || c.is_whitespace();
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    coded.then(|| String::from_utf8_lossy(&decoded).into_owned())
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
