//! Where a line of a request's head ends. hyper takes a lone LF for an end, too; what stands between us and whoever asks
//! may not, and hand on one head that we would read as two (RFC 9112 §2.2 lets a server refuse it).

/// Octets of a line that are looked at: names of fields, and a length.
const LINE_MAX: usize = 64;

/// Follows the octets of a connection.
#[derive(Debug, Default)]
pub(super) struct Lines {
    state: State,
    line: Vec<u8>,
    begun: bool,
    last: u8,
    length: u64,
    coded: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// So many octets of a body follow.
    Body(u64),
    /// A body of which only hyper knows where it ends; the connection does so with it.
    Rest,
}

impl Lines {
    /// The next octets; false if a line of a head ends in a lone LF.
    pub(super) fn take(&mut self, mut octets: &[u8]) -> bool {
        while let Some((first, rest)) = octets.split_first() {
            match &mut self.state {
                State::Rest => return true,
                State::Body(left) => {
                    let skip = octets.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= skip as u64;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                    octets = octets.get(skip..).unwrap_or_default();
                    continue;
                }
                State::Head => {}
            }
            octets = rest;
            let before = std::mem::replace(&mut self.last, *first);
            match first {
                b'\n' if before != b'\r' => return false,
                b'\n' => self.end_of_line(),
                b'\r' => {}
                other if self.line.len() < LINE_MAX => self.line.push(other.to_ascii_lowercase()),
                _ => {}
            }
        }
        true
    }

    fn end_of_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.begun = true;
            if let Some(length) = line.strip_prefix(b"content-length:") {
                let length = std::str::from_utf8(length).ok().and_then(|length| length.trim().parse().ok());
                self.length = length.unwrap_or_default();
            }
            self.coded |= line.starts_with(b"transfer-encoding:");
            return;
        }
        // Empty lines may stand before a request.
        if self.begun {
            let (coded, length) = (self.coded, self.length);
            let state = if coded { State::Rest } else { State::Body(length) };
            *self = Lines { state, ..Lines::default() };
            if self.state == State::Body(0) {
                self.state = State::Head;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(octets: &[u8]) -> bool {
        let at_once = Lines::default().take(octets);
        let mut lines = Lines::default();
        let one_by_one = octets.iter().all(|octet| lines.take(&[*octet]));
        assert_eq!(at_once, one_by_one);
        at_once
    }

    #[test]
    fn a_lone_lf_is_found_in_heads_alone() {
        assert!(whole(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(whole(
            b"\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na\nbGET / HTTP/1.1\r\nHost: x\r\n\r\n"
        ));
        assert!(whole(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n"));
        for bad in [
            &b"GET / HTTP/1.1\nHost: x\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n\n",
            b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\n",
            b"POST / HTTP/1.1\r\ncontent-length:  1\r\n\r\n\nGET / HTTP/1.1\n",
        ] {
            assert!(!whole(bad), "{}", bad.escape_ascii());
        }
    }
}
