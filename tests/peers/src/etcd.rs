//! The load on etcd: puts of new keys, through its own client.

use anyhow::{Context, Result};
use etcd_client::{Client, ConnectOptions};
use std::sync::Arc;
use std::time::Duration;
use tercet::load::{self, Load, Measured, Progress};
use tercet::usage::Usage;
use tercet_tests::etcd;

/// As many as `tercet bench events` shares a connection among.
const CLIENTS_PER_CONNECTION: u32 = 64;

pub struct Etcd(etcd::Etcd);

pub fn version() -> Result<String> {
    etcd::version().context("no etcd on the path; install Debian's `etcd-server`, or put etcd there")
}

impl Etcd {
    pub async fn start(delays: Option<[Duration; 3]>) -> Result<Self> {
        let started = tokio::task::spawn_blocking(move || etcd::Etcd::start(delays)).await;
        Ok(Self(started.context("etcd does not start")?))
    }

    /// Puts of new keys, spread over the nodes as clients of Tercet are over the clouds.
    pub async fn puts(&self, load: Load, value_bytes: usize, run: &'static str) -> Result<Measured> {
        self.puts_at(None, load, value_bytes, run).await
    }

    /// The same, at one node alone if one is named.
    pub async fn puts_at(
        &self,
        node: Option<usize>,
        load: Load,
        value_bytes: usize,
        run: &'static str,
    ) -> Result<Measured> {
        let count = load.clients.div_ceil(CLIENTS_PER_CONNECTION).max(3);
        let mut connections = Vec::new();
        for number in 0..count {
            let url = &self.0.urls[node.unwrap_or(number as usize % self.0.urls.len())];
            connections.push(Client::connect([url], Some(ConnectOptions::new())).await?.kv_client());
        }
        let value = Arc::new(vec![b'x'; value_bytes]);
        let put = move |client: u32, round: u32| {
            let mut kv = connections[client as usize % connections.len()].clone();
            let value = value.clone();
            async move {
                let key = format!("bench-{run}-{client}-{round}");
                kv.put(key, value.as_slice(), None).await.map(|_| ()).map_err(|error| error.to_string())
            }
        };
        Ok(load::run(load, &Arc::new(Progress::default()), put).await)
    }

    pub fn usage(&self) -> Vec<Usage> {
        self.0.nodes.iter().filter_map(|node| Usage::of(node.pid() as u32)).collect()
    }
}
