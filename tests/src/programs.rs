//! Finds `tercetd` and `tercet` next to the test executable, in `target/<profile>/`, and lets cargo
//! bring them up to date first: once a process, under a lock between processes. Set
//! `TERCET_PROGRAMS` to a folder to use the programs there as they are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder that holds the two programs.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match given() {
        Some(given) => complaint().map_or(given, |complaint| panic!("{complaint}")),
        None => build(),
    })
}

/// What is wrong with the folder that `TERCET_PROGRAMS` names, if it names one.
pub fn complaint() -> Option<String> {
    let given = given()?;
    let missing = ["tercetd", "tercet"].into_iter().find(|name| !given.join(name).is_file())?;
    let folder = given.display();
    Some(format!("TERCET_PROGRAMS={folder}, but no {missing} is there; name a folder with both programs, or unset it"))
}

fn given() -> Option<PathBuf> {
    std::env::var_os("TERCET_PROGRAMS").map(PathBuf::from)
}

pub fn tercetd() -> PathBuf {
    folder().join("tercetd")
}

pub fn tercet() -> PathBuf {
    folder().join("tercet")
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("the operating system tells where this program is");
    let beside = test.parent().expect("a program lies in a folder");
    // target/<profile>/deps/<test> for tests, target/<profile>/<program> for programs.
    let profile = if beside.ends_with("deps") { beside.parent().unwrap_or(beside) } else { beside };
    let target = profile.parent().expect("a profile's folder lies in the target folder");
    let name = profile.file_name().and_then(|name| name.to_str()).unwrap_or("debug");
    let lock = std::fs::File::create(target.join("tercet-programs.lock")).expect("the target folder is writable");
    lock.lock().expect("a lock on a file of our own");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo told this test about its own package would make build scripts run again.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_about_this_package)) {
        command.env_remove(name);
    }
    let built = command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args([
            "build",
            "--quiet",
            "-p",
            "tercetd",
            "-p",
            "tercet",
            "--bins",
            "--profile",
            if name == "debug" { "dev" } else { name },
        ])
        .arg("--target-dir")
        .arg(target)
        .status();
    match built {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("cargo could not build tercetd and tercet: {status}"),
        // Without cargo (an archive of tests on another machine) what is there is used.
        Err(_) if profile.join("tercetd").exists() => {}
        Err(error) => panic!("no tercetd in {}, and cargo cannot build it: {error}", profile.display()),
    }
    profile.to_owned()
}

fn is_about_this_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|prefix| variable.starts_with(prefix))
}
