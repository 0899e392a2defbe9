//! What `smsd compose` may make of its alerts: `[main]`'s keys as flags.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::compose;
use crate::alert::AlertId;
use crate::compose::Shape;
use crate::config::{EncodingChoice, Main, Overflow, Transliterate};

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Compose {
    /// Segments of one SMS at most
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    max_segments: u8,
    /// What becomes of alerts that do not fit
    #[arg(long, value_enum, default_value = "ignore")]
    overflow: OverflowWord,
    /// Which encodings may be used
    #[arg(long, value_enum, default_value = "auto")]
    encoding: EncodingWord,
    /// What may be replaced to save segments
    #[arg(long, value_enum, default_value = "punctuation")]
    transliterate: TransliterateWord,
    /// Put before each SMS
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
}

impl Compose {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let summary = compose::run(io::stdin().lock(), io::stdout().lock(), &self.shape())?;
        Ok(summary.exit_code())
    }

    fn shape(self) -> Shape {
        Shape {
            max_segments: self.max_segments,
            overflow: match self.overflow {
                OverflowWord::Ignore => Overflow::Ignore,
                OverflowWord::Next => Overflow::Next,
            },
            encoding: match self.encoding {
                EncodingWord::Auto => EncodingChoice::Auto,
                EncodingWord::Gsm7 => EncodingChoice::Gsm7,
                EncodingWord::Ucs2 => EncodingChoice::Ucs2,
            },
            transliterate: match self.transliterate {
                TransliterateWord::None => Transliterate::None,
                TransliterateWord::Punctuation => Transliterate::Punctuation,
                TransliterateWord::Full => Transliterate::Full,
            },
            prefix: self.prefix,
        }
    }
}

/// A text as the daemon would send it alone: cleaned, prefixed and cut as `[main]` says.
pub(crate) fn composed(main: &Main, text: &str) -> Arc<str> {
    let shape = Shape {
        max_segments: main.max_segments,
        overflow: main.overflow,
        encoding: main.encoding,
        transliterate: main.transliterate,
        prefix: main.prefix.clone(),
    };
    crate::compose::compose(&[(AlertId(0), text)], &shape).text.into()
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverflowWord {
    /// They are counted (`+N see web.`) and ignored
    Ignore,
    /// They are left for the next SMS
    Next,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EncodingWord {
    /// The one with the fewest segments
    Auto,
    /// GSM 03.38 only
    Gsm7,
    /// UCS-2 always
    Ucs2,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TransliterateWord {
    /// Nothing
    None,
    /// Curly quotes, dashes, ellipsis, no-break space
    Punctuation,
    /// Everything that has a near form in GSM 03.38
    Full,
}
