//! `tercet tenant list`.

use crate::exit::{Failure, NO_QUORUM};
use crate::output;
use crate::session::Globals;
use clap::Args;
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet tenant list
  tercet tenant list -o json")]
pub struct List {}

pub async fn run(globals: &Globals) -> Result<(), Failure> {
    let (_, client) = globals.asking()?;
    let answers = join_all(client.clouds().iter().map(|cloud| client.tenants(&cloud.name))).await;
    let mut tenants: BTreeMap<String, (Value, Vec<String>)> = BTreeMap::new();
    let mut answered = 0;
    for (cloud, answer) in client.clouds().iter().zip(answers) {
        match answer {
            Err(error) => eprintln!("cloud {} does not answer: {error}", cloud.name),
            Ok(list) => {
                answered += 1;
                for tenant in list {
                    let id = tenant.get("id").map(output::text).unwrap_or_default();
                    tenants.entry(id).or_insert_with(|| (tenant, Vec::new())).1.push(cloud.name.to_string());
                }
            }
        }
    }
    if answered == 0 {
        return Err(Failure::new(NO_QUORUM, "no cloud answers; is the cluster running? Start it with `tercetd up`"));
    }
    if globals.is_json() {
        let list: Vec<Value> = tenants
            .into_values()
            .map(|(mut tenant, clouds)| {
                if let Some(members) = tenant.as_object_mut() {
                    members.insert("clouds".into(), json!(clouds));
                }
                tenant
            })
            .collect();
        return output::json(&json!({ "tenants": list }));
    }
    let text = |tenant: &Value, name: &str| tenant.get(name).map_or_else(|| "-".into(), output::text);
    let rows = tenants.into_iter().map(|(id, (tenant, clouds))| {
        let known = if clouds.len() == client.clouds().len() { "all".into() } else { clouds.join(", ") };
        vec![id, text(&tenant, "confirm"), text(&tenant, "unsigned"), known]
    });
    output::print(&output::table(&["tenant", "confirm", "unsigned", "known to"], rows))
}
