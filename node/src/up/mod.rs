//! `tercetd up`: makes a federation in a data folder, runs its nodes as child processes, shows the
//! first event become FINAL and SEALED, and stays until Ctrl-C.

pub mod create;

use std::path::PathBuf;
use tercet_core::ids::CloudId;

/// What `tercetd up` was asked for.
pub struct Options {
    pub config: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub nodes_per_cloud: Option<usize>,
    /// Empty means all.
    pub clouds: Vec<CloudId>,
    pub restart: bool,
    /// The log filter of the nodes.
    pub log: Option<String>,
}

pub async fn up(_options: Options) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
