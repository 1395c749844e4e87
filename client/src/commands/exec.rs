//! `tercet exec-child`, which `tercet keep-child` puts before the command: if the keeper itself is killed, the
//! command must not go on without it.

use crate::exit::Failure;
use clap::Args;
use std::ffi::OsString;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet exec-child 1234 -- ./serve

Not for people: becomes the command, and is killed when process 1234, which has to be its parent, ends.")]
pub struct Exec {
    /// The process that this one must not outlive
    #[arg(value_name = "PID")]
    parent: i32,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<OsString>,
}

pub fn run(exec: &Exec) -> Result<(), Failure> {
    use std::os::unix::process::CommandExt;
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(|error| Failure::usage(format!("the kernel refuses to tie this process to its parent: {error}")))?;
    // Linux keeps that over exec. The parent may have ended just before.
    if nix::unistd::getppid().as_raw() != exec.parent {
        return Err(Failure::usage("the process that this command belongs to has ended"));
    }
    let (program, arguments) = exec.command.split_first().expect("clap requires a command");
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(Failure::usage(format!("cannot run {}: {error}", program.to_string_lossy())))
}
