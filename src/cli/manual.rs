//! `smsd completions` and `smsd man`: made from the command line itself and from the commented smsd.conf, so that they can
//! not differ from them. The reference in `docs/reference` is the same in Markdown.

mod command;
mod conf;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::output::print;
use crate::config::example::Example;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The page of this command (`send`, `queue list`), or of `smsd.conf`; without, that of smsd
    #[arg(value_name = "PAGE")]
    page: Vec<String>,
    /// As Markdown; without a page, of all commands
    #[arg(long)]
    markdown: bool,
    /// Write all pages into this folder instead
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["page", "markdown"])]
    dir: Option<PathBuf>,
}

impl Completions {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        // Into memory first: the generator panics on a closed pipe.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "smsd", &mut script);
        print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Man {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        // The pages of `help` would say the same again.
        let mut root = Cli::command().disable_help_subcommand(true);
        // Gives each command its full name and the flags that hold everywhere.
        root.build();
        if let Some(dir) = self.dir {
            std::fs::create_dir_all(&dir)?;
            std::fs::write(dir.join("smsd.conf.5"), conf::page(&Example::read()))?;
            command::each(&root, &mut |command| {
                let name = command.get_display_name().unwrap_or_else(|| command.get_name());
                Ok(std::fs::write(dir.join(format!("{name}.1")), command::page(command)?)?)
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.page == ["smsd.conf"] {
            let example = Example::read();
            print(&if self.markdown { conf::markdown(&example) } else { conf::page(&example) })?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut command = &root;
        for word in &self.page {
            command = command.find_subcommand(word).ok_or_else(|| {
                super::Stop::Usage(format!("{word:?} is no command; `smsd --help` names them"))
            })?;
        }
        print(&if self.markdown { command::markdown(command)? } else { command::page(command)? })?;
        Ok(ExitCode::SUCCESS)
    }
}
