//! Finds or makes the cluster, and checks all of it before anything is started: that nobody else
//! runs these clouds, that every node's configuration is right, and that its ports are free.

use super::Options;
use super::create::{Template, create};
use crate::config::{ClusterFile, Config, Directory};
use crate::env::Os;
use crate::keys::make_private_dir;
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tercet_core::ids::{CloudId, NodeId};

/// Nodes of each cloud if nobody says how many.
const DEFAULT_NODES_PER_CLOUD: usize = 3;

/// A cluster that is ready to be started.
pub struct Cluster {
    pub dir: PathBuf,
    pub directory: Directory,
    /// The clouds to run here, sorted.
    pub running: Vec<CloudId>,
    made: bool,
    /// Held as long as the nodes run: one a cloud, so that the clouds of one cluster can run in
    /// several terminals, each of them once.
    _locks: Vec<Flock<File>>,
}

impl Cluster {
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("cluster.toml")
    }

    pub fn runs(&self, cloud: &CloudId) -> bool {
        self.running.contains(cloud)
    }

    /// Nodes to run here.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        let clouds = self.directory.clouds.iter().filter(|entry| self.runs(&entry.cloud));
        clouds.flat_map(|entry| &entry.nodes).map(|entry| &entry.node)
    }

    pub fn print_plan(&self) {
        let how = if self.made { "Made a new cluster in" } else { "Starting the cluster in" };
        say!("{how} {}", self.dir.display());
        for entry in &self.directory.clouds {
            let nodes: Vec<String> = entry.nodes.iter().map(|e| format!("{} {}", e.node, e.client_addr)).collect();
            let note = if self.runs(&entry.cloud) { "" } else { "   (not started here)" };
            say!("  {:<8} {}{note}", entry.cloud, nodes.join("   "));
        }
    }
}

pub fn prepare(options: &Options) -> Result<Cluster> {
    let dir = &options.data_dir;
    let path = dir.join("cluster.toml");
    // What is wrong with the template must be said before a folder is made.
    let template = options.config.as_deref().map(ClusterFile::read).transpose()?;
    make_private_dir(dir)?;
    let making = lock(dir, "up.lock", FlockArg::LockExclusive)?;
    let made = !path.exists();
    if made {
        let template = match &template {
            Some(file) => Template::from_file(file, options.nodes_per_cloud)?,
            None => Template::standard(options.nodes_per_cloud.unwrap_or(DEFAULT_NODES_PER_CLOUD))?,
        };
        check_names(&options.clouds, template.clouds.iter().map(|cloud| &cloud.name))?;
        create(dir, &template, &Os)?;
    }
    let file = ClusterFile::read(&path)?;
    if !made {
        check_same(&file, template.as_ref(), options, dir)?;
    }
    check_names(&options.clouds, file.clouds.iter().map(|cloud| &cloud.name))?;
    let wanted = |cloud: &CloudId| options.clouds.is_empty() || options.clouds.contains(cloud);
    let running: Vec<CloudId> = file.clouds.iter().map(|cloud| cloud.name.clone()).filter(wanted).collect();
    let locks = running.iter().map(|cloud| lock_cloud(dir, cloud)).collect::<Result<Vec<_>>>()?;
    drop(making);
    let directory = check_nodes(&file, &path, &running)?;
    // Children get an absolute path, so that it does not matter where they run.
    let dir = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
    Ok(Cluster { dir, directory, running, made, _locks: locks })
}

fn lock(dir: &Path, name: &str, how: FlockArg) -> Result<Flock<File>> {
    let path = dir.join(name);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, how).map_err(|(_, e)| anyhow::Error::new(e).context(format!("cannot lock {}", path.display())))
}

fn lock_cloud(dir: &Path, cloud: &CloudId) -> Result<Flock<File>> {
    lock(dir, &format!("up.{cloud}.lock"), FlockArg::LockExclusiveNonblock).map_err(|_| {
        anyhow::anyhow!(
            "another `tercetd up` already runs cloud {cloud} of {}; stop it with Ctrl-C, or choose another --data-dir",
            dir.display()
        )
    })
}

fn check_names<'a>(wanted: &[CloudId], known: impl Iterator<Item = &'a CloudId>) -> Result<()> {
    let known: Vec<&CloudId> = known.collect();
    for cloud in wanted {
        if !known.contains(&cloud) {
            let known: Vec<&str> = known.iter().map(|cloud| cloud.as_str()).collect();
            bail!("--cloud {cloud}: this cluster's clouds are {}", known.join(", "));
        }
    }
    Ok(())
}

/// A cluster that exists keeps its shape: what was asked for must fit it.
fn check_same(file: &ClusterFile, template: Option<&ClusterFile>, options: &Options, dir: &Path) -> Result<()> {
    if let Some(asked) = options.nodes_per_cloud {
        for cloud in &file.clouds {
            let nodes = cloud.nodes.len();
            if nodes != asked {
                bail!(
                    "{}: cloud {} has {nodes} nodes, and --nodes-per-cloud asks for {asked}; leave the option out, or make a new \
                     cluster with another --data-dir",
                    dir.display(),
                    cloud.name
                );
            }
        }
    }
    let shape = |file: &ClusterFile| {
        let clouds = file.clouds.iter().map(|cloud| {
            let nodes: Vec<NodeId> = cloud.nodes.iter().map(|node| node.id.get_ref().clone()).collect();
            (cloud.name.clone(), *cloud.weight.get_ref(), nodes)
        });
        (*file.federation.quorum.get_ref(), clouds.collect::<Vec<_>>())
    };
    if template.is_some_and(|template| shape(template) != shape(file)) {
        bail!(
            "{}: the cluster here has other clouds, weights or nodes than --config; leave the option out, or make a new cluster \
             with another --data-dir",
            dir.display()
        );
    }
    Ok(())
}

/// Checks what each node would check, and its ports, so that nothing starts half.
fn check_nodes(file: &ClusterFile, path: &Path, running: &[CloudId]) -> Result<Directory> {
    let mut directory = None;
    for cloud in file.clouds.iter().filter(|cloud| running.contains(&cloud.name)) {
        for node in &cloud.nodes {
            let (config, _) = Config::load(path, node.id.get_ref())?;
            for address in [config.entry().peer_addr, config.entry().client_addr] {
                check_free(node.id.get_ref(), address, path)?;
            }
            directory = Some(config.directory);
        }
    }
    directory.context("no cloud to run")
}

fn check_free(node: &NodeId, address: SocketAddr, path: &Path) -> Result<()> {
    let bound = TcpListener::bind(address).map(drop);
    bound.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {} on {}, which {node} needs, is in use; is the node running by hand? Stop what holds the port, or write another \
             port into {} (and context.toml)",
            address.port(),
            address.ip(),
            path.display()
        ),
        _ => anyhow::anyhow!("{node} cannot listen on {address}: {e}; write another address into {}", path.display()),
    })
}
