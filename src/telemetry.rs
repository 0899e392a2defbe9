//! What happened, told once: the events of the program and where they go.

/// Cuts a foreign string to at most `max` bytes at a character, and makes its control characters visible:
/// C0 and C1, DEL, and the bidirectional overrides that reorder a log line.
pub fn clip(s: &mut String, max: usize) {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if s.contains(odd) {
        *s = s
            .chars()
            .flat_map(|c| if odd(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect();
    }
    if s.len() > max {
        let mut end = max.saturating_sub('…'.len_utf8());
        while !s.is_char_boundary(end) {
            end -= 1;
        }
        s.truncate(end);
        s.push('…');
    }
}
