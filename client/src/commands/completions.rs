//! `tercet completions`.

use crate::commands::Cli;
use crate::exit::Failure;
use crate::output;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet completions bash > ~/.local/share/bash-completion/completions/tercet
  tercet completions zsh > ~/.zfunc/_tercet
  tercet completions fish > ~/.config/fish/completions/tercet.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub fn run(command: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut Cli::command(), "tercet", &mut script);
    output::bytes(&script)
}
