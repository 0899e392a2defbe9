//! Lines out of what a program writes, each within bounds.

/// Bytes of a line at most.
pub(super) const LINE_MAX: usize = 64 * 1024;

/// Gathers pieces of output into lines. One that is too long is dropped to its end.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    too_long: bool,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its end and without space around it; empty ones do not come.
    Whole(Vec<u8>),
    /// One that was longer than [`LINE_MAX`].
    TooLong,
}

impl Lines {
    /// Takes a piece, and gives the lines that it ends.
    pub(super) fn take(&mut self, piece: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut pieces = piece.split(|b| *b == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.begun.len() + piece.len() > LINE_MAX {
                self.too_long = true;
                self.begun.clear();
            }
            if !self.too_long {
                self.begun.extend_from_slice(piece);
            }
            if pieces.peek().is_some() {
                lines.extend(self.end());
            }
        }
        lines
    }

    /// What stands after the last line end.
    pub(super) fn end(&mut self) -> Option<Line> {
        let line = std::mem::take(&mut self.begun);
        if std::mem::take(&mut self.too_long) {
            return Some(Line::TooLong);
        }
        let line = line.trim_ascii();
        (!line.is_empty()).then(|| Line::Whole(line.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(line: &str) -> Line {
        Line::Whole(line.into())
    }

    #[test]
    fn pieces_become_lines() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"{\"a\""), []);
        assert_eq!(lines.take(b":1}\r\n\n \nb"), [whole("{\"a\":1}")]);
        assert_eq!(lines.take(b"\nc\n"), [whole("b"), whole("c")]);
        assert_eq!(lines.end(), None);
        assert_eq!(lines.take(b"rest"), []);
        assert_eq!(lines.end(), Some(whole("rest")));
    }

    #[test]
    fn a_line_is_bounded_and_the_next_is_whole() {
        let mut lines = Lines::default();
        for _ in 0..20 {
            assert_eq!(lines.take(&[b'x'; 10_000]), []);
            assert!(lines.begun.len() <= LINE_MAX);
        }
        assert_eq!(lines.take(b"x\nnext\n"), [Line::TooLong, whole("next")]);
        assert_eq!(lines.take(&[b'y'; LINE_MAX]), []);
        assert_eq!(lines.take(b"\n"), [Line::Whole(vec![b'y'; LINE_MAX])]);
    }

    proptest! {
        #[test]
        fn how_it_is_cut_changes_nothing(text in "[ab\n]{0,60}", cuts in proptest::collection::vec(1usize..7, 0..30)) {
            let mut lines = Lines::default();
            let (mut got, mut rest) = (Vec::new(), text.as_bytes());
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                got.extend(lines.take(piece));
                rest = after;
            }
            got.extend(lines.take(rest));
            got.extend(lines.end());
            let want: Vec<Line> = text.split('\n').filter(|l| !l.is_empty()).map(whole).collect();
            prop_assert_eq!(got, want);
        }
    }
}
