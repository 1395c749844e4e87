//! A guarded resource: a store of one value that takes a write only from the holder of a lease, and never from one whose
//! fencing token is lower than the highest it has seen. It needs the federation's public keys and no network.
//!
//! ```sh
//! cargo run -p tercet --example guarded_store -- .tercet/trust.json default primary global highest-token 127.0.0.1:8099
//! tercet role run primary -- sh -c 'curl -X PUT -H "Tercet-Grant: $TERCET_GRANT" -d hello http://127.0.0.1:8099/'
//! curl http://127.0.0.1:8099/
//! ```

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use tercet::leases::{FencedResource, NotAdmitted};
use tercet::verify::read_trust;

struct Store {
    guard: FencedResource,
    value: String,
}

type Shared = Arc<Mutex<Store>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [trust, tenant, lease, scope, highest, address] = &arguments[..] else {
        return Err("usage: guarded_store TRUST TENANT LEASE SCOPE FILE ADDRESS".into());
    };
    let trust = read_trust(&std::fs::read(trust)?, None)?;
    // The file remembers the highest token, so that a restart takes no older one.
    let guard = FencedResource::open(trust, tenant.parse()?, lease.parse()?, scope.parse()?, highest.into())?;
    let store: Shared = Arc::new(Mutex::new(Store { guard, value: String::new() }));
    let router = Router::new().route("/", get(read).put(write)).with_state(store);
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("guarded by {lease} of {tenant}, on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}

async fn read(State(store): State<Shared>) -> String {
    lock(&store).value.clone()
}

async fn write(State(store): State<Shared>, headers: HeaderMap, value: String) -> (StatusCode, String) {
    let grant = headers.get("tercet-grant").and_then(|grant| grant.to_str().ok()).unwrap_or_default();
    // Checked and written under one lock: no other token comes between.
    let mut store = lock(&store);
    match store.guard.admit(grant) {
        Ok(granted) => {
            store.value = value;
            (StatusCode::OK, format!("written by {} with token {}\n", granted.holder, granted.fencing_token))
        }
        Err(NotAdmitted::Storage(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(refused) => (StatusCode::CONFLICT, format!("{refused}\n")),
    }
}

fn lock(store: &Shared) -> std::sync::MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
