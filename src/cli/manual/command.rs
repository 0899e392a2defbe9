//! The page of a command, and all commands as Markdown.

use std::fmt::Write as _;
use std::io;

use clap::{Arg, Command};
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use super::conf::{GENERATED, escaped};
use super::words::{ENVIRONMENT, EXAMPLES, EXIT_STATUS, FILES, Term};

/// Does something with a command and with all below it, except clap's own `help`.
pub(super) fn each(
    command: &Command,
    act: &mut impl FnMut(&Command) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    act(command)?;
    for sub in subcommands(command) {
        each(sub, act)?;
    }
    Ok(())
}

/// The manual page.
pub(super) fn page(command: &Command) -> io::Result<String> {
    let is_root = command.get_name() == "smsd";
    let mut shown = command.clone();
    if is_root {
        shown = shown.override_usage("smsd [OPTIONS]\nsmsd [OPTIONS] COMMAND [ARGUMENTS]");
    }
    let version = format!("smsd {}", env!("CARGO_PKG_VERSION"));
    let name = shown.get_display_name().unwrap_or_else(|| shown.get_name()).to_owned();
    let man = Man::new(shown).title(&name).source(version).manual("smsd");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if subcommands(command).next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::new();
    if is_root {
        terms(&mut roff, "EXIT STATUS", &EXIT_STATUS);
        terms(&mut roff, "FILES", &FILES);
        terms(&mut roff, "ENVIRONMENT", &ENVIRONMENT);
        terms(&mut roff, "EXAMPLES", &EXAMPLES);
    }
    roff.control("SH", ["SEE ALSO"]);
    if is_root {
        roff.text([bold("smsd.conf"), roman("(5)")]);
    } else {
        roff.text([bold("smsd"), roman("(1), "), bold("smsd.conf"), roman("(5)")]);
    }
    roff.to_writer(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// The reference in `docs/reference/command-line.md`; of a command below `smsd`, its part of it.
pub(super) fn markdown(command: &Command) -> anyhow::Result<String> {
    let mut text = String::new();
    if command.get_name() == "smsd" {
        let _ = writeln!(
            text,
            "{GENERATED}# Command line\n\nEvery command, as `man smsd` and `smsd --help` have them."
        );
    }
    each(command, &mut |command| {
        one(&mut text, command);
        Ok(())
    })?;
    Ok(text)
}

fn one(text: &mut String, command: &Command) {
    let is_root = command.get_name() == "smsd";
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let about = command.get_long_about().or_else(|| command.get_about());
    let _ = writeln!(text, "\n## {name}\n");
    let paragraphs: Vec<String> =
        about.map(ToString::to_string).unwrap_or_default().lines().map(sentence).collect();
    let _ = writeln!(text, "{}\n", paragraphs.join("\n"));
    let usage = command.clone().render_usage().to_string();
    let _ = writeln!(text, "```text\n{}\n```", usage.trim_start_matches("Usage: "));
    let args: Vec<&Arg> = command.get_arguments().filter(|arg| is_shown(arg, is_root)).collect();
    if !args.is_empty() {
        let _ = writeln!(text, "\n| argument | meaning |\n| --- | --- |");
    }
    for arg in args {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let mut said = sentence(&help);
        let words = arg.get_possible_values();
        let words: Vec<String> =
            words.iter().filter(|w| !w.is_hide_set()).map(|w| format!("`{}`", w.get_name())).collect();
        if !words.is_empty() && arg.get_action().takes_values() {
            let _ = write!(said, ": {}", words.join(", "));
        }
        let defaults: Vec<String> =
            arg.get_default_values().iter().map(|v| format!("`{}`", v.to_string_lossy())).collect();
        if !defaults.is_empty() && arg.get_action().takes_values() {
            let _ = write!(said, " (default {})", defaults.join(" "));
        }
        let _ = writeln!(text, "| `{}` | {said} |", spelled(arg));
    }
    if is_root {
        for (title, terms) in
            [("Exit status", &EXIT_STATUS[..]), ("Files", &FILES), ("Environment", &ENVIRONMENT)]
        {
            let _ = writeln!(text, "\n### {title}\n");
            for (term, words) in terms {
                let _ = writeln!(text, "* `{term}`: {}", sentence(words));
            }
        }
    }
}

/// Those that hold everywhere are told once.
fn is_shown(arg: &Arg, is_root: bool) -> bool {
    let everywhere = arg.is_global_set() || matches!(arg.get_id().as_str(), "help" | "version");
    !arg.is_hide_set() && (is_root || !everywhere)
}

/// As it is typed.
fn spelled(arg: &Arg) -> String {
    let values: Vec<&str> =
        arg.get_value_names().unwrap_or_default().iter().map(|name| name.as_str()).collect();
    let value = if arg.get_action().takes_values() { values.join(" ") } else { String::new() };
    if arg.is_positional() {
        return value;
    }
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let flags = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    if value.is_empty() { flags } else { format!("{flags} {value}") }
}

/// Words with code in backticks.
fn sentence(words: &str) -> String {
    let code = |(n, part): (usize, &str)| if n % 2 == 1 { format!("`{part}`") } else { escaped(part) };
    words.split('`').enumerate().map(code).collect()
}

fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
}

fn terms(roff: &mut Roff, title: &str, terms: &[Term]) {
    roff.control("SH", [title]);
    for (term, words) in terms {
        roff.control("TP", []).text([bold(*term)]).text([roman(*words)]);
    }
}
