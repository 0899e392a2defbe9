//! Lines and mails out of a stream of octets, strictly: a line ends in CRLF and a mail in CRLF.CRLF, and nothing else.
//!
//! Whoever takes a lone LF or CR for the end of a line lets one mail pass for two at whoever does not (SMTP smuggling,
//! CVE-2023-51764). Pure, and bounded: what is too long is counted and thrown away.

/// The longest line of a command, in octets with its CRLF (RFC 5321 §4.5.3.1.4 asks for 512, and more with extensions).
pub const LINE_MAX: usize = 2_048;

/// Collects the line of a command.
#[derive(Debug, Default)]
pub struct Line {
    octets: Vec<u8>,
    too_long: bool,
}

/// What a line turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its octets, without CRLF.
    Well(Vec<u8>),
    /// Longer than [`LINE_MAX`].
    TooLong,
    /// A lone LF or CR stands in it: nobody knows where the client means it to end.
    Bare,
}

impl Line {
    /// Takes octets; returns how many were of this line, and the line if it has ended.
    pub fn take(&mut self, octets: &[u8]) -> (usize, Option<Ended>) {
        for (at, &octet) in octets.iter().enumerate() {
            let after_cr = self.octets.last() == Some(&b'\r');
            match octet {
                b'\n' if after_cr => {
                    self.octets.pop();
                    let line = std::mem::take(&mut self.octets);
                    let ended =
                        if std::mem::take(&mut self.too_long) { Ended::TooLong } else { Ended::Well(line) };
                    return (at + 1, Some(ended));
                }
                b'\n' => return (at + 1, Some(Ended::Bare)),
                _ if after_cr => return (at, Some(Ended::Bare)),
                _ => {}
            }
            if self.octets.len() >= LINE_MAX {
                self.too_long = true;
                self.octets.clear();
            }
            self.octets.push(octet);
        }
        (octets.len(), None)
    }
}

/// Collects a mail.
#[derive(Debug)]
pub struct Data {
    mail: Vec<u8>,
    max: usize,
    at: At,
    too_big: bool,
    bare: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    Dot,
    DotCr,
    Line,
    Cr,
}

/// What a mail turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mail {
    /// Its octets, with the dots that were doubled for the wire made one again.
    Well(Vec<u8>),
    /// Larger than allowed.
    TooBig,
    /// A lone LF or CR stands in it.
    Bare,
}

impl Data {
    /// Of at most `max` octets.
    pub fn new(max: usize) -> Data {
        Data { mail: Vec::new(), max, at: At::LineStart, too_big: false, bare: false }
    }

    /// Takes octets; returns how many were of this mail, and the mail if it has ended.
    pub fn take(&mut self, octets: &[u8]) -> (usize, Option<Mail>) {
        for (at, &octet) in octets.iter().enumerate() {
            self.at = match (self.at, octet) {
                (At::LineStart, b'.') => At::Dot,
                (At::Dot, b'\r') => At::DotCr,
                (At::DotCr, b'\n') => return (at + 1, Some(self.end())),
                (At::Cr, b'\n') => {
                    self.push(b"\r\n");
                    At::LineStart
                }
                (before, octet) => {
                    if matches!(before, At::Cr | At::DotCr) {
                        self.bare = true;
                        self.push(b"\r");
                    }
                    match octet {
                        b'\r' => At::Cr,
                        other => {
                            self.bare |= other == b'\n';
                            self.push(&[other]);
                            At::Line
                        }
                    }
                }
            };
        }
        (octets.len(), None)
    }

    fn push(&mut self, octets: &[u8]) {
        if self.too_big || self.mail.len() + octets.len() > self.max {
            self.too_big = true;
            self.mail = Vec::new();
        } else {
            self.mail.extend_from_slice(octets);
        }
    }

    fn end(&mut self) -> Mail {
        match (self.bare, self.too_big) {
            (true, _) => Mail::Bare,
            (false, true) => Mail::TooBig,
            (false, false) => Mail::Well(std::mem::take(&mut self.mail)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, however the octets are cut.
    fn mail(octets: &[u8]) -> (usize, Option<Mail>) {
        let whole = Data::new(100).take(octets);
        let mut data = Data::new(100);
        let mut used = 0;
        for octet in octets {
            let (n, mail) = data.take(&[*octet]);
            used += n;
            if mail.is_some() {
                assert_eq!((used, mail), whole);
                return whole;
            }
        }
        assert_eq!((used, None), whole);
        whole
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_mail() {
        let well = |text: &str| Some(Mail::Well(text.as_bytes().to_vec()));
        for (octets, used, want) in [
            (&b".\r\n"[..], 3, well("")),
            (b"a\r\n.\r\nQUIT\r\n", 6, well("a\r\n")),
            (b"..\r\n...x\r\n.\r\n", 13, well(".\r\n..x\r\n")),
            (b"a\r\n.b\r\n.\r\n", 10, well("a\r\nb\r\n")),
            (b"a\r\n\r\n.\r\n", 8, well("a\r\n\r\n")),
            (b"a\n.\nb\r\n.\r\n", 10, Some(Mail::Bare)),
            (b"a\n.\r\nb\r\n.\r\n", 11, Some(Mail::Bare)),
            (b"a\r\n.\nb\r\n.\r\n", 11, Some(Mail::Bare)),
            (b"a\r.\r\nb\r\n.\r\n", 11, Some(Mail::Bare)),
            (b"a\r\n.\rb\r\n.\r\n", 11, Some(Mail::Bare)),
            (b"a\r\n.\r\r\n.\r\n", 10, Some(Mail::Bare)),
            (b"a\r\r\n.\r\n", 7, Some(Mail::Bare)),
            (b"a\r\n.", 4, None),
        ] {
            assert_eq!(mail(octets), (used, want), "{:?}", String::from_utf8_lossy(octets));
        }
        let big = [&[b'x'; 200][..], b"\r\n.\r\n"].concat();
        assert_eq!(mail(&big), (205, Some(Mail::TooBig)));
    }

    #[test]
    fn only_crlf_ends_a_line() {
        let mut line = Line::default();
        assert_eq!(line.take(b"NO"), (2, None));
        assert_eq!(line.take(b"OP\r"), (3, None));
        assert_eq!(line.take(b"\nQUIT\r\n"), (1, Some(Ended::Well(b"NOOP".to_vec()))));
        assert_eq!(Line::default().take(b"NOOP\nQUIT\r\n"), (5, Some(Ended::Bare)));
        assert_eq!(Line::default().take(b"NOOP\rQUIT\r\n"), (5, Some(Ended::Bare)));
        let mut line = Line::default();
        assert_eq!(line.take(&[b'x'; 100_000]), (100_000, None));
        assert!(line.octets.capacity() <= 2 * LINE_MAX);
        assert_eq!(line.take(b"\r\nQUIT\r\n"), (2, Some(Ended::TooLong)));
        assert_eq!(line.take(b"QUIT\r\n"), (6, Some(Ended::Well(b"QUIT".to_vec()))));
    }
}
