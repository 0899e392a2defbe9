//! What `smsd compose` may make of its alerts: `[main]`'s keys as flags.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::compose;
use crate::alert::AlertId;
use crate::compose::Shape;
use crate::config::{EncodingChoice, Main, Overflow, Style, Transliterate};

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Compose {
    /// Segments of one SMS at most
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    max_segments: u8,
    /// How several alerts become one SMS
    #[arg(long, value_enum, default_value = "nav")]
    style: StyleWord,
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
    /// Where people read what is only counted
    #[arg(long, value_name = "TEXT", default_value = "web")]
    web: String,
}

impl Compose {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let summary = compose::run(io::stdin().lock(), io::stdout().lock(), &self.shape())?;
        Ok(summary.exit_code())
    }

    fn shape(self) -> Shape {
        Shape {
            style: match self.style {
                StyleWord::Nav => Style::Nav,
                StyleWord::Digest => Style::Digest,
            },
            max_segments: self.max_segments,
            overflow: match self.overflow {
                OverflowWord::Ignore => Overflow::Ignore,
                OverflowWord::Next => Overflow::Next,
            },
            encoding: self.encoding.into(),
            transliterate: self.transliterate.into(),
            prefix: self.prefix,
            web: self.web,
        }
    }
}

/// A text as the daemon would send it alone: cleaned, prefixed and cut as `[main]` says.
pub(crate) fn composed(main: &Main, text: &str) -> Arc<str> {
    crate::compose::compose(&[(AlertId(0), text)], &Shape::of(main)).text.into()
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StyleWord {
    /// The first alerts whole, the others counted
    Nav,
    /// As many alerts as can be told, shortened if need be
    Digest,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverflowWord {
    /// They are counted (`+N see web.`) and ignored
    Ignore,
    /// They are left for the next SMS
    Next,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum EncodingWord {
    /// The one with the fewest segments
    Auto,
    /// GSM 03.38 only
    Gsm7,
    /// UCS-2 always
    Ucs2,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum TransliterateWord {
    /// Nothing
    None,
    /// Curly quotes, dashes, ellipsis, no-break space
    Punctuation,
    /// Everything that has a near form in GSM 03.38
    Full,
}

impl From<EncodingWord> for EncodingChoice {
    fn from(word: EncodingWord) -> EncodingChoice {
        match word {
            EncodingWord::Auto => EncodingChoice::Auto,
            EncodingWord::Gsm7 => EncodingChoice::Gsm7,
            EncodingWord::Ucs2 => EncodingChoice::Ucs2,
        }
    }
}

impl From<TransliterateWord> for Transliterate {
    fn from(word: TransliterateWord) -> Transliterate {
        match word {
            TransliterateWord::None => Transliterate::None,
            TransliterateWord::Punctuation => Transliterate::Punctuation,
            TransliterateWord::Full => Transliterate::Full,
        }
    }
}
