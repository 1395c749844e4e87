//! The port of a real cluster: every call goes through the client library over TLS, to one cloud
//! alone, as an application's would.

use crate::history::{Outcome, Seen};
use crate::port::{AUTO_TENANT, Answer, CERTIFICATE_GONE, Event, Head, MANUAL_TENANT, Port, Proof, tenant_of};
use crate::workload::leases;
use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tercet::client::{Client, Patience, Route};
use tercet::context::Context;
use tercet::error::{Error, Outcome as Certainty};
use tercet::events::MAX_PAGE;
use tercet::http::Call;
use tercet::sign::Signer;
use tercet::status::NodeStatus;
use tercet::tenants::{DEFAULT_MAX_PENDING, NewTenant, prepare};
use tercet_core::ids::{CloudId, TenantId};
use tercet_core::leases::Asked;
use tercet_core::tenants::{Confirm, Tenant};

/// How long a client tries one call through outages.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub struct RealPort {
    client: Client,
    signers: [Signer; 2],
    tenants: [Tenant; 2],
    trust: PathBuf,
}

impl RealPort {
    /// Reads the context, and makes the files of the tenant that confirms by hand.
    pub fn new(context: &Path) -> Result<Self> {
        let context = Context::read(context)?;
        let id = TenantId::new(MANUAL_TENANT)?;
        let new = NewTenant { id, confirm: Confirm::Manual, unsigned: false, max_pending: DEFAULT_MAX_PENDING };
        let (manual, _) = prepare(&context, &new)?;
        let (_, description) = context.tenant_files(&TenantId::new(AUTO_TENANT)?);
        let tenants = [context.tenant_description(&description)?, manual];
        let fed = context.trust_bundle()?.genesis.fed_id();
        let signer = |confirm| {
            let tenant = TenantId::new(tenant_of(confirm))?;
            let key = context.signing_key(&tenant)?;
            anyhow::Ok(Signer::new(fed, tenant, key))
        };
        let signers = [signer(Confirm::Auto)?, signer(Confirm::Manual)?];
        let client = Client::new(&context, None, Patience::through_outages(Some(PATIENCE)))?;
        let trust = context.trust.clone().context("the context names its trust bundle")?;
        Ok(Self { client, signers, tenants, trust })
    }

    /// Tells a cloud about both tenants and the leases. Telling it again changes nothing.
    pub async fn make_tenants(&self, cloud: &str) -> Result<()> {
        for tenant in &self.tenants {
            self.client.put_tenant(&CloudId::new(cloud)?, tenant).await?;
        }
        for spec in leases::specs() {
            self.client.put_lease(&CloudId::new(cloud)?, &spec, &Asked::default()).await?;
        }
        Ok(())
    }

    fn signer(&self, confirm: Confirm) -> &Signer {
        match confirm {
            Confirm::Auto => &self.signers[0],
            Confirm::Manual => &self.signers[1],
        }
    }

    async fn list_all(&self, at: &str, confirm: Confirm) -> Result<Vec<(String, Seen)>> {
        let (mut all, mut after, route) = (Vec::new(), None, only(at));
        loop {
            let page = self.client.list(&route, self.signer(confirm).tenant(), after, MAX_PAGE, None).await?;
            for event in &page.events {
                all.push((event["id"].as_str().context("an event has an id")?.to_owned(), seen(event)?));
            }
            match page.next {
                None => return Ok(all),
                next => after = next,
            }
        }
    }

    async fn all_heads(&self, at: &str) -> Result<Vec<Head>> {
        let cloud = self.client.cloud(&CloudId::new(at)?)?;
        let call = tercet::http::Call::get(&["v1", "status"]);
        let mut best: Option<NodeStatus> = None;
        for node in &cloud.nodes {
            let answer = self.client.transport().attempt(node.id.as_str(), &node.url, &call, PATIENCE).await;
            let Ok(status) = answer.map_err(|failure| format!("{failure:?}")).map(|answer| answer.json::<NodeStatus>())
            else {
                continue;
            };
            let status = status?;
            if status.role == "leader" && best.as_ref().is_none_or(|best| best.term < status.term) {
                best = Some(status);
            }
        }
        let best = best.with_context(|| format!("{at} has no leader"))?;
        let head = |seen: &tercet::status::CloudSeen| Head {
            of: seen.cloud.to_string(),
            size: seen.size,
            root: seen.root.clone().unwrap_or_default(),
        };
        Ok(best.clouds.iter().map(head).collect())
    }

    async fn all_proofs(&self, at: &str) -> Result<Vec<Proof>> {
        let mut proofs = Vec::new();
        for summary in self.client.evidence_list(&only(at)).await? {
            let bytes = self.client.evidence(&only(at), &summary.id).await?.to_vec();
            proofs.push(Proof { against: summary.cloud, id: summary.id, bytes });
        }
        Ok(proofs)
    }
}

fn only(cloud: &str) -> Route {
    Route::Only(CloudId::new(cloud).expect("clouds come from the context"))
}

/// An event of a list.
fn seen(event: &Value) -> Result<Seen> {
    let mark = |name: &str| event["marks"][name].as_bool().unwrap_or_default();
    Ok(Seen {
        level: event["level"].as_str().context("an event has a level")?.to_owned(),
        review: mark("review"),
        conflict: mark("conflict"),
        content: event["contentHash"].as_str().map(ToOwned::to_owned),
    })
}

impl Port for RealPort {
    fn clouds(&self) -> Vec<String> {
        let mut names: Vec<String> = self.client.clouds().iter().map(|cloud| cloud.name.to_string()).collect();
        names.sort();
        names
    }

    fn submit<'a>(&'a self, at: &'a str, event: &'a Event) -> BoxFuture<'a, Answer> {
        async move {
            match self.client.submit(&only(at), self.signer(event.confirm), &event.draft()).await {
                Ok(receipt) => Answer::Acknowledged {
                    cloud: at.to_owned(),
                    content: receipt.content_hash.to_string(),
                    new: receipt.new,
                    // The client library tries again by itself, and does not tell.
                    repeated: true,
                },
                Err(error) if error.outcome() == Certainty::None => Answer::Refused {
                    code: error.code().unwrap_or("not_served").to_owned(),
                    first: match &error {
                        Error::Refused(problem) => problem.text("firstContentHash").map(ToOwned::to_owned),
                        _ => None,
                    },
                },
                Err(error) => Answer::Unknown(error.to_string()),
            }
        }
        .boxed()
    }

    fn decide<'a>(&'a self, at: &'a str, event: &'a Event, confirm: bool) -> BoxFuture<'a, Outcome> {
        async move {
            let (draft, tenant) = (event.draft(), event.tenant());
            let Ok(content) = draft.content(&tenant) else { return Outcome::Refused };
            let cloud = CloudId::new(at).expect("clouds come from the context");
            match self.client.decide(&cloud, &tenant, &draft.key, confirm, Some(content.hash())).await {
                Ok(_) => Outcome::Done,
                Err(error) if error.outcome() == Certainty::None => Outcome::Refused,
                Err(_) => Outcome::Unknown,
            }
        }
        .boxed()
    }

    fn look<'a>(&'a self, at: &'a str, event: &'a Event) -> BoxFuture<'a, Option<Seen>> {
        async move {
            let view = self.client.event(&only(at), &event.tenant(), &event.draft().key).await.ok()?;
            Some(Seen::new(view.level, view.marks, view.content_hash.map(|hash| hash.to_string())))
        }
        .boxed()
    }

    fn list<'a>(&'a self, at: &'a str, tenant: Confirm) -> BoxFuture<'a, Result<Vec<(String, Seen)>, String>> {
        async move { self.list_all(at, tenant).await.map_err(|error| format!("{error:#}")) }.boxed()
    }

    fn heads<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<Head>, String>> {
        async move { self.all_heads(at).await.map_err(|error| format!("{error:#}")) }.boxed()
    }

    fn proofs<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<Proof>, String>> {
        async move { self.all_proofs(at).await.map_err(|error| format!("{error:#}")) }.boxed()
    }

    fn certificate<'a>(&'a self, at: &'a str, event: &'a Event) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>> {
        async move {
            match self.client.certificate(&only(at), &event.tenant(), &event.draft().key).await {
                Ok(bytes) => Ok(Some(bytes.to_vec())),
                Err(error) if error.code() == Some(CERTIFICATE_GONE) => Ok(None),
                Err(error) => Err(error.to_string()),
            }
        }
        .boxed()
    }

    fn call<'a>(&'a self, at: &'a str, call: Call) -> BoxFuture<'a, Result<Value, String>> {
        async move {
            let answer = self.client.send_for(&only(at), &call, Patience::once(PATIENCE)).await;
            let answer = answer.map_err(|error| error.code().map_or_else(|| error.to_string(), ToOwned::to_owned))?;
            answer.json().map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn trust(&self) -> Vec<u8> {
        std::fs::read(&self.trust).expect("the trust bundle was there when the run began")
    }
}
