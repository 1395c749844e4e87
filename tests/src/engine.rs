//! A real container engine for one test: a `dockerd` with folders, socket and process of its own, and
//! an image made from one static program.

use crate::process::Process;
use crate::wait::{check, try_eventually};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long a daemon may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The image that every engine has.
pub const IMAGE: &str = "tercet-test:1";

/// Answers every HTTP request with its name and the fencing token that it sees.
const PROGRAM: &str = r#"
use std::io::{Read, Write};
fn main() {
    let address = std::env::var("ADDRESS").expect("ADDRESS is set");
    let name = std::env::var("NAME").expect("NAME is set");
    let listener = std::net::TcpListener::bind(address).expect("the address is free");
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let _ = stream.read(&mut [0; 4096]);
        let token = std::fs::read_to_string("/run/tercet/token").unwrap_or_else(|_| "none".into());
        let body = format!("{name} {token}");
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    }
}
"#;

/// A running daemon.
pub struct Engine {
    daemon: Process,
    folder: TempDir,
}

impl Engine {
    /// So many engines; `None`, and a word why, where this machine cannot run any.
    pub fn some<const N: usize>() -> Option<[Self; N]> {
        if Command::new("dockerd").arg("--version").output().is_err() {
            eprintln!("skipped: no dockerd here; .ci/setup installs it");
            return None;
        }
        let image = image();
        let mut engines = Vec::new();
        for _ in 0..N {
            match Self::start(&image) {
                Ok(engine) => engines.push(engine),
                Err(why) => {
                    eprintln!("skipped: dockerd does not run here: {why}");
                    return None;
                }
            }
        }
        engines.try_into().ok()
    }

    fn start(image: &Path) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("tercet-engine-").tempdir().expect("a writable folder");
        let at = |name: &str| folder.path().join(name);
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(at("data")).arg("--exec-root").arg(at("exec"));
        command.arg("--pidfile").arg(at("pid")).arg("-H").arg(format!("unix://{}", at("docker.sock").display()));
        command.args(["--bridge", "none", "--iptables=false", "--ip6tables=false", "--storage-driver", "vfs"]);
        let mut daemon = Process::start(command);
        let socket = at("docker.sock");
        let started = try_eventually(START_LIMIT, &mut || {
            if let Some(status) = daemon.has_ended() {
                return Ok(Err(format!("it ended with {status}: {}", daemon.output())));
            }
            check(docker(&socket, &["info"]).is_ok(), || daemon.output()).map(Ok)
        });
        started.and_then(|started| started)?;
        let image = image.to_str().expect("UTF-8");
        docker(&socket, &["import", "-c", "ENTRYPOINT [\"/program\"]", image, IMAGE])?;
        // A daemon may run where no container does.
        let settings = ["-e", "ADDRESS=127.0.0.1:0", "-e", "NAME=probe", "--network", "host", "--name", "probe"];
        docker(&socket, &[&["run", "-d"], &settings[..], &[IMAGE]].concat())?;
        docker(&socket, &["rm", "-f", "probe"])?;
        Ok(Self { daemon, folder })
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Names of the containers that run.
    pub fn running(&self) -> Vec<String> {
        let listed = docker(&self.socket(), &["ps", "--format", "{{.Names}}"]).expect("the engine answers");
        listed.lines().map(ToOwned::to_owned).collect()
    }

    pub fn docker(&self, arguments: &[&str]) -> Result<String, String> {
        docker(&self.socket(), arguments)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Ok(all) = docker(&self.socket(), &["ps", "-aq"]) {
            for id in all.lines() {
                let _ = docker(&self.socket(), &["rm", "-f", id]);
            }
        }
        let _ = self.daemon.stop();
        // It leaves the network of the host mounted, and the folder could not be removed.
        let _ = Command::new("umount").arg(self.folder.path().join("exec").join("netns").join("default")).output();
    }
}

fn docker(socket: &Path, arguments: &[&str]) -> Result<String, String> {
    let host = format!("unix://{}", socket.display());
    let done = Command::new("docker").args(["-H", &host]).args(arguments).output().map_err(|e| e.to_string())?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&done.stderr).into_owned())
}

/// The archive of the one program, compiled once a process.
fn image() -> PathBuf {
    static IMAGE: std::sync::OnceLock<(TempDir, PathBuf)> = std::sync::OnceLock::new();
    let (_, archive) = IMAGE.get_or_init(|| {
        let folder = tempfile::Builder::new().prefix("tercet-image-").tempdir().expect("a writable folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("program.rs"), PROGRAM).expect("a writable folder");
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"]);
        run(rustc.arg(at("program")).arg(at("program.rs")));
        let archive = at("image.tar");
        run(Command::new("tar").arg("-C").arg(folder.path()).arg("-cf").arg(&archive).arg("program"));
        (folder, archive)
    });
    archive.clone()
}

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
