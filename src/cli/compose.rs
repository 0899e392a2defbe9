//! `smsd compose`: what one SMS would say, for each line of alerts. Needs no configuration.

use std::borrow::Cow;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::alert::AlertId;
use crate::compose::{Shape, compose};

/// Bytes of the longest line that is read: some 100,000 alerts.
pub const LINE_MAX: usize = 16 << 20;

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines composed.
    pub composed: u64,
    /// Lines that could not be read.
    pub faulty: u64,
}

impl Summary {
    /// 0, or 1 if any line was faulty.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(u8::from(self.faulty > 0))
    }
}

/// Reads `{"messages":[{"id":1,"text":"…"},…]}` lines and writes one [`crate::compose::Composed`] as a JSON line for each.
///
/// The alerts are taken in the order in which they stand; `severity` and any other key is not looked at. Blank
/// lines are skipped. A line that can not be read is named on stderr with its number, `{"error":…,"line":N}`
/// stands in its place in the output, so that the n-th answer belongs to the n-th line that is not blank, and
/// the rest is done all the same. Answers are held back only while more lines are at hand, so that a program
/// may write a line and wait for the answer. No alerts make no SMS: an empty text in 0 segments.
///
/// # Errors
/// Reading or writing failed.
pub fn run(mut input: impl BufRead, output: impl Write, shape: &Shape) -> anyhow::Result<Summary> {
    let mut output = io::BufWriter::with_capacity(64 << 10, output);
    let mut summary = Summary::default();
    let mut line = Vec::new();
    let mut flush;
    for number in 1_u64.. {
        match read_line(&mut input, &mut line).with_context(|| format!("cannot read line {number}"))? {
            Read::End => break,
            Read::Line { more } => flush = !more,
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match parse(&line) {
            Ok(request) => {
                let alerts: Vec<_> = request.messages.iter().map(|m| (m.id, &*m.text)).collect();
                serde_json::to_writer(&mut output, &compose(&alerts, shape)).context("cannot write")?;
                summary.composed += 1;
            }
            Err(error) => {
                // Nobody may be there to read it.
                let _ = writeln!(io::stderr(), "smsd compose: line {number}: {error}");
                serde_json::to_writer(&mut output, &Fault { error, line: number }).context("cannot write")?;
                summary.faulty += 1;
            }
        }
        output.write_all(b"\n").context("cannot write")?;
        if flush {
            output.flush().context("cannot write")?;
        }
    }
    output.flush().context("cannot write")?;
    Ok(summary)
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    id: AlertId,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

#[derive(Serialize)]
struct Fault {
    error: String,
    line: u64,
}

fn parse(line: &[u8]) -> Result<Request<'_>, String> {
    if line.len() > LINE_MAX {
        return Err(format!("longer than {LINE_MAX} bytes"));
    }
    serde_json::from_slice(line).map_err(|error| {
        // serde_json counts lines within what it is given, which is one.
        let what = error.to_string();
        let what = what.split(" at line 1").next().unwrap_or_default();
        format!(r#"column {}: {what}; expected {{"messages":[{{"id":1,"text":"…"}},…]}}"#, error.column())
    })
}

/// What [`read_line`] met.
enum Read {
    /// A line; is there `more` at hand that can be read without waiting?
    Line { more: bool },
    /// The end of the input.
    End,
}

/// Reads up to the end of the line, of which at most one byte more than [`LINE_MAX`] is kept.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Read> {
    line.clear();
    loop {
        let at_hand = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            at_hand => at_hand?,
        };
        if at_hand.is_empty() {
            return Ok(if line.is_empty() { Read::End } else { Read::Line { more: false } });
        }
        let newline = at_hand.iter().position(|b| *b == b'\n');
        let used = newline.map_or(at_hand.len(), |at| at + 1);
        let kept = newline.unwrap_or(used).min(LINE_MAX + 1 - line.len());
        line.extend(at_hand.iter().take(kept));
        let more = used < at_hand.len();
        input.consume(used);
        if newline.is_some() {
            return Ok(Read::Line { more });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(input: &[u8]) -> (Summary, Vec<serde_json::Value>) {
        let mut output = Vec::new();
        let summary = run(input, &mut output, &Shape::default()).unwrap();
        let lines = output.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        (summary, lines.map(|l| serde_json::from_slice(l).unwrap()).collect())
    }

    #[test]
    fn one_answer_for_each_line() {
        let (summary, answers) = answers(
            br#"{"messages":[{"id":1,"text":"a","severity":1},{"id":2,"text":"\u00e6\n","severity":null}]}

{"messages":[]}"#,
        );
        assert_eq!(summary, Summary { composed: 2, faulty: 0 });
        assert_eq!(
            answers[0],
            serde_json::json!({"sms": "1: a; 2: æ\n", "sent": [1, 2], "ignored": [], "encoding": "gsm7",
                "segments": 1, "units": 11})
        );
        assert_eq!((answers[1]["sms"].as_str(), answers[1]["segments"].as_u64()), (Some(""), Some(0)));
    }

    #[test]
    fn a_faulty_line_is_named_and_the_rest_is_done() {
        let good = br#"{"messages":[{"id":1,"text":"a"}]}"#;
        let mut input = good.to_vec();
        input.extend(b"\n{\"messages\":[{\"id\":\"x\",\"text\":\"a\"}]}\n\xFF\n{}\n{\"a\":\"");
        input.resize(input.len() + LINE_MAX, b'x');
        input.push(b'\n');
        input.extend(good);
        let (summary, answers) = answers(&input);
        assert_eq!(summary, Summary { composed: 2, faulty: 4 });
        assert_eq!(summary.exit_code(), ExitCode::from(1));
        for (line, what) in [
            (2, "column 22: invalid type: string"),
            (3, "column 1: expected value"),
            (4, "missing field `messages`"),
            (5, "longer than"),
        ] {
            let answer = &answers[line - 1];
            assert_eq!(answer["line"], line);
            assert!(answer["error"].as_str().unwrap().contains(what), "{answer}");
        }
        assert_eq!(answers[5]["sms"], "a");
    }

    /// A program that asks one thing, and asks the next when it has the answer.
    struct Asker<'a> {
        questions: Vec<&'static [u8]>,
        answers: &'a std::sync::Mutex<Vec<u8>>,
        had: Vec<usize>,
    }

    impl io::Read for Asker<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let had = self.answers.lock().unwrap().iter().filter(|b| **b == b'\n').count();
            self.had.push(had);
            let Some(question) = self.questions.pop() else { return Ok(0) };
            buf[..question.len()].copy_from_slice(question);
            Ok(question.len())
        }
    }

    struct Answers<'a>(&'a std::sync::Mutex<Vec<u8>>);

    impl Write for Answers<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(buf)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_waits_for_the_answer_gets_it() {
        let answers = std::sync::Mutex::new(Vec::new());
        let question = b"{\"messages\":[]}\n";
        let mut asker = Asker {
            questions: vec![question, b":[]}\n", b"{\"messages\"", question],
            answers: &answers,
            had: vec![],
        };
        run(io::BufReader::new(&mut asker), Answers(&answers), &Shape::default()).unwrap();
        assert_eq!(asker.had, [0, 1, 1, 2, 3]);
    }
}
