//! The `tercetd` command: `up` for a whole cluster on this machine, `run` for one node.

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tercet_core::ids::{CloudId, NodeId};
use tercetd::config::Config;
use tercetd::{node, up};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A fifth of a busy node's time went into glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Three clouds confirm every event: one node, or a whole cluster on this machine.
#[derive(Parser)]
#[command(name = "tercetd", version, about, max_term_width = 110, after_help = AFTER_HELP)]
struct Cli {
    /// What to log to stderr: error, warn, info, debug, trace, or a filter such as
    /// `warn,tercetd::federation=debug`. RUST_LOG is used if this is not given.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a whole cluster on this machine, show an event become FINAL and SEALED, stay until Ctrl-C
    #[command(after_help = UP_HELP)]
    Up(Up),
    /// Run one node of a cluster
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// Give a cloud that lost its state for good fresh node keys and a new epoch
    #[command(after_help = RENEW_HELP)]
    Renew(Renew),
}

#[derive(Args)]
struct Renew {
    /// The cluster's file
    #[arg(long, value_name = "FILE", default_value = ".tercet/cluster.toml")]
    config: PathBuf,
    /// The cloud that lost its state
    #[arg(long, value_name = "NAME")]
    cloud: CloudId,
}

#[derive(Args)]
struct Up {
    /// Take clouds, weights, nodes and settings of a new cluster from this file (its addresses are
    /// replaced by free loopback ports)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the cluster lives: made if it is not there, started again if it is
    #[arg(long, value_name = "DIR", default_value = ".tercet")]
    data_dir: PathBuf,
    /// Nodes of each cloud in a new cluster [default: 3, or as in --config]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes_per_cloud: Option<u8>,
    /// Start only this cloud (may be given several times); the others can be started later
    #[arg(long = "cloud", value_name = "NAME")]
    clouds: Vec<CloudId>,
    /// Start a node again when it exits
    #[arg(long)]
    restart: bool,
}

#[derive(Args)]
struct Run {
    /// The cluster's file
    #[arg(long, value_name = "FILE", default_value = ".tercet/cluster.toml")]
    config: PathBuf,
    /// Which of its nodes this is
    #[arg(long, value_name = "NODE")]
    node: NodeId,
}

const AFTER_HELP: &str = "\
Examples:
  tercetd up --nodes-per-cloud 1                       three clouds of one node each
  tercetd up                                           three clouds of three nodes each
  tercetd run --config .tercet/cluster.toml --node gcp-1   bring one node back by hand";

const UP_HELP: &str = "\
Examples:
  tercetd up                          nine nodes; everything is kept in ./.tercet
  tercetd up --nodes-per-cloud 1      three nodes, one a cloud
  tercetd up --cloud gcp              one cloud alone: events stay PENDING
  tercetd up --cloud aws              ... until a second cloud joins (in another terminal)
  tercetd up --data-dir /tmp/t --restart

Files in the data folder: cluster.toml (addresses), context.toml (how `tercet` connects), nodes/<id>/log.txt.";

const RUN_HELP: &str = "\
Examples:
  tercetd run --node azure-1
  tercetd run --config /etc/tercet/cluster.toml --node gcp-2 --log debug

It stops on SIGTERM and Ctrl-C, and exits with 1 and the reason when it cannot go on.";

const RENEW_HELP: &str = "\
Examples:
  tercetd renew --cloud gcp           after the disks of gcp are gone; then start its nodes
  tercetd renew --config /etc/tercet/cluster.toml --cloud azure

It needs the cloud's root key (roots/<cloud>.key) and the authorities (ca/) beside cluster.toml. The cloud votes again
once both other clouds have closed its old epoch. State that is still there is refused, never removed.";

fn main() -> ExitCode {
    // Whatever this process or a library makes on disk is for its owner alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let cli = Cli::parse();
    let log = cli.log.clone();
    let done = start_logging(cli.log.as_deref(), &cli.command).and_then(|()| {
        // At least two, since a write to the log may hold one up.
        let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
        runtime.block_on(async {
            match cli.command {
                Command::Run(run) => run_node(run).await,
                Command::Up(args) => up::up(args.options(log)).await,
                Command::Renew(args) => {
                    println!("{}", up::renew(&args.config, &args.cloud, &tercetd::env::Os)?);
                    Ok(())
                }
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("tercetd: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_node(run: Run) -> Result<()> {
    up::die_with_parent()?;
    let (config, keys) = Config::load(&run.config, &run.node)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    node::run(config, keys, stop).await
}

impl Up {
    fn options(self, log: Option<String>) -> up::Options {
        up::Options {
            config: self.config,
            data_dir: self.data_dir,
            nodes_per_cloud: self.nodes_per_cloud.map(usize::from),
            clouds: self.clouds,
            restart: self.restart,
            log,
        }
    }
}

fn start_logging(filter: Option<&str>, command: &Command) -> Result<()> {
    let default = match command {
        Command::Up(_) | Command::Renew(_) => "warn",
        // openraft tells every step of its own at info.
        Command::Run(_) => "info,openraft=warn",
    };
    let filter = match filter {
        Some(filter) => EnvFilter::try_new(filter).context("--log is not a filter; write for example --log debug")?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default)),
    };
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    Ok(())
}
