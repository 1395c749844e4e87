//! Reading and changing a `cluster.toml`.

use std::net::SocketAddr;

fn nodes_of(config: &mut toml::Table) -> impl Iterator<Item = &mut toml::Table> {
    let clouds = config["clouds"].as_array_mut().expect("a list of clouds").iter_mut();
    clouds
        .flat_map(|cloud| cloud["nodes"].as_array_mut().expect("a list of nodes"))
        .filter_map(toml::Value::as_table_mut)
}

pub fn address(config: &toml::Table, node: &str, key: &str) -> SocketAddr {
    let mut config = config.clone();
    let found = nodes_of(&mut config).find(|entry| entry["id"].as_str() == Some(node)).expect("the node is listed");
    found[key].as_str().expect("a text").parse().expect("an address")
}

pub fn set(config: &mut toml::Table, node: &str, key: &str, value: &str) {
    let found = nodes_of(config).find(|entry| entry["id"].as_str() == Some(node)).expect("the node is listed");
    found.insert(key.to_owned(), toml::Value::String(value.to_owned()));
}
