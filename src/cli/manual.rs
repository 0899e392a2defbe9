//! `smsd completions` and `smsd man`: made from the command line itself, so that they can not differ from it.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::output::print;

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
    /// The page of this command (`send`, `queue list`); without, that of smsd
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write all pages into this folder instead
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    dir: Option<std::path::PathBuf>,
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
        let mut root = Cli::command();
        // Gives each command its full name and the flags that hold everywhere.
        root.build();
        if let Some(dir) = self.dir {
            std::fs::create_dir_all(&dir)?;
            clap_mangen::generate_to(root, dir)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut command = &root;
        for word in &self.command {
            command = command.find_subcommand(word).ok_or_else(|| {
                super::Stop::Usage(format!("{word:?} is no command; `smsd --help` names them"))
            })?;
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page)?;
        print(&String::from_utf8_lossy(&page))?;
        Ok(ExitCode::SUCCESS)
    }
}
