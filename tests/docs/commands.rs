//! Every command that the documentation shows is given to the program, with `--help` behind it: that it is understood
//! is what counts, and not what it does.

use std::process::{Command, Stdio};

use crate::pages::all;

#[test]
fn every_command_is_understood() {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for page in all() {
        let blocks =
            page.blocks.iter().filter(|block| matches!(block.language.as_str(), "" | "sh" | "console"));
        let lines: Vec<&str> = blocks.flat_map(|block| block.text.lines()).collect();
        for line in lines.iter().copied().chain(page.spans.iter().map(String::as_str)) {
            // A flag that is named without its value is told apart by its name alone.
            let Some(words) = words(line).filter(|words| *words != ["-T"]) else { continue };
            tried += 1;
            let output = Command::new(env!("CARGO_BIN_EXE_smsd"))
                .args(&words)
                .arg("--help")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                wrong.push(format!("{}: `{line}`: {}", page.path, said.lines().next().unwrap_or_default()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 150, "{tried} commands");
}

/// The arguments of a line that runs smsd; what is in capitals stands for a value.
fn words(line: &str) -> Option<Vec<String>> {
    let line = line.trim().trim_start_matches("$ ");
    let line = line.strip_prefix("sudo ").unwrap_or(line);
    // The picture in the README is none.
    if line.contains(['─', '▶']) {
        return None;
    }
    let line = ["/usr/bin/smsd ", "smsd "].iter().find_map(|program| line.strip_prefix(program))?;
    let mut words = Vec::new();
    for word in shlex(line)? {
        if matches!(word.as_str(), "|" | "&" | "&&" | "||" | ";" | "<" | ">" | ">>" | "2>&1")
            || word.starts_with('>')
        {
            break;
        }
        words.push(match word.trim_end_matches('…') {
            "ID" | "N" => "1".to_owned(),
            "FILE" | "FOLDER" => "/tmp".to_owned(),
            "NUMBER" | "+47" => "+4799999999".to_owned(),
            "SHELL" => "bash".to_owned(),
            other => other.to_owned(),
        });
    }
    Some(words)
}

/// As a shell splits words; a comment ends the line.
fn shlex(line: &str) -> Option<Vec<String>> {
    let line = line.split(" # ").next().unwrap_or(line).trim_end();
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}
