//! `tercet bench peers`: hands over to `tercet-peers`, a program of its own, since only it needs etcd's client.

use crate::exit::{Failure, OTHER};
use clap::Args;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

const PROGRAM: &str = "tercet-peers";

#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:
  tercet bench peers --duration 20s -o json
  tercet bench peers --write docs
  tercet bench peers --help"
)]
pub struct Peers {
    /// Options of tercet-peers
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

/// Returns only if the program cannot be started.
pub fn run(command: Peers) -> Failure {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.to_owned()));
    let Some(folder) = beside.filter(|folder| folder.join(PROGRAM).is_file()) else {
        let how = "build it where this program was built (it needs protoc, the tests' cluster needs tercetd there): \
                   cargo build --release -p tercetd -p tercet && \
                   cargo build --release --manifest-path tests/peers/Cargo.toml --target-dir target";
        return Failure::new(OTHER, format!("{PROGRAM} is not beside this program; {how}"));
    };
    let mut peers = Command::new(folder.join(PROGRAM));
    // It measures the very programs of this build.
    peers.args(command.options).env("TERCET_PROGRAMS", &folder);
    Failure::new(OTHER, format!("{PROGRAM} does not start: {}", peers.exec()))
}
