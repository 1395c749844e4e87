//! A second process that stops a container when its agent does not: because it was killed, or hangs past
//! the end of the lease. The agent tells it again and again until when the container may run.

use super::engine::Engine;
use crate::leases::boottime;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, Command};

/// The hidden command that a watchdog runs.
pub const COMMAND: &str = "agent-watchdog";
/// How often a container that does not stop is stopped again.
const AGAIN: Duration = Duration::from_secs(1);

/// The agent's end of it.
pub struct Watchdog {
    orders: ChildStdin,
}

impl Watchdog {
    /// `None` if it cannot be started, which is said.
    pub fn start(engine: &Engine, container: &str) -> Option<Self> {
        let start = || {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(COMMAND).arg(&engine.socket).arg(container);
            // Signals for the agent's group are not for it.
            command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
            command.spawn()
        };
        match start() {
            Ok(mut child) => {
                let orders = child.stdin.take()?;
                // Collected when it ends.
                tokio::spawn(async move { child.wait().await });
                Some(Self { orders })
            }
            Err(error) => {
                eprintln!("no watchdog for container {container}: {error}");
                None
            }
        }
    }

    /// The container may run for so long from now.
    pub async fn allow(&mut self, left: Duration) {
        self.tell(&format!("until {}\n", (boottime() + left).as_millis())).await;
    }

    /// The container has stopped, or belongs to another tenure: nobody has to stop it any more.
    pub async fn dismiss(mut self) {
        self.tell("done\n").await;
    }

    async fn tell(&mut self, order: &str) {
        // One that is gone cannot be told; the next tenure starts another.
        let _ = self.orders.write_all(order.as_bytes()).await;
        let _ = self.orders.flush().await;
    }
}

/// The watchdog's own process: stops the container once its time is over, and ends when it does not run.
pub async fn watch(socket: &Path, container: &str) -> Result<(), String> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let (mut until, mut open) = (Duration::MAX, true);
    loop {
        let left = until.saturating_sub(boottime());
        if left.is_zero() {
            break;
        }
        tokio::select! {
            order = orders.next_line(), if open => match order {
                Ok(Some(order)) if order == "done" => return Ok(()),
                Ok(Some(order)) => {
                    let ms = order.strip_prefix("until ").and_then(|ms| ms.parse().ok());
                    until = Duration::from_millis(ms.ok_or_else(|| format!("{order:?} is no order"))?);
                }
                // The agent is gone. The time that it allowed still counts.
                Ok(None) | Err(_) => open = false,
            },
            () = tokio::time::sleep(left.min(Duration::from_secs(3600))) => {}
        }
        if until == Duration::MAX && !open {
            return Err("the agent allowed nothing".into());
        }
    }
    loop {
        let stopped = async {
            let engine = Engine::connect(socket).await?;
            engine.stop(container, Duration::ZERO).await
        };
        match stopped.await {
            Ok(()) => return Ok(()),
            Err(error) => {
                eprintln!("container {container} has to stop and does not: {error}");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
