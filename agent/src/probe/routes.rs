//! Routes: the main IPv4 table and the IPv6 tables of process 1's network
//! namespace, so that the agent's own does not matter.
//!
//! /proc shows one next hop of each route, does not tell the IPv6 tables apart,
//! and not how an IPv6 route that goes nowhere refuses; that is all recorded as
//! `unreachable`. IPv4 routes of other tables, which need a rule to be used, are
//! not there.

pub(super) mod table;

use std::collections::BTreeMap;

use contracts::v1::{AssetKind, RelationType, RouteDetails, asset_details::Details};

use self::table::{FIB_TRIE, IPV6_ROUTE, Ipv4Route, Ipv6Route, ROUTE, fib_entries, ipv4_routes, lines};
use super::network::Links;
use super::{ProbeError, Scan, is_absent};
use crate::asset::ScannedAsset;
use crate::host::HostRoot;

pub(super) const WATCHED: &[&str] = &[];

/// Most routes of each family; a router with all of the Internet's would fill
/// the inventory with them.
const MAX_ROUTES: usize = 2000;

pub(super) fn scan(host: &HostRoot) -> Result<Scan, ProbeError> {
    let mut routes = Vec::new();
    let mut left_out = 0_usize;
    ipv4_routes(host, |route| {
        if routes.len() < MAX_ROUTES {
            routes.push(of_ipv4(&route));
        } else {
            left_out += 1;
        }
    })
    .map_err(ProbeError::read(ROUTE))?;
    if routes.iter().any(|route| route.interface.is_empty()) {
        name_refusals(host, &mut routes)?;
    }
    let mut room = MAX_ROUTES;
    let read = lines(host, IPV6_ROUTE, |line| {
        let Some(route) = table::ipv6_line(line) else { return };
        if room > 0 {
            room -= 1;
            routes.push(of_ipv6(&route));
        } else {
            left_out += 1;
        }
    });
    match read {
        // A kernel without IPv6.
        Err(error) if !is_absent(&error) => return Err(ProbeError::read(IPV6_ROUTE)(error)),
        _ => {}
    }

    let mut scan = Scan::default();
    // After the routes, so that no new interface of a container is unknown.
    let links = Links::read(host)?;
    for route in routes {
        // As its interface, a container's routes come and go with it.
        if links.leads_to_container(&route.interface) {
            continue;
        }
        let key = natural_key(&route);
        if !route.interface.is_empty() && !links.has(&route.interface) {
            scan.warnings.push(format!("{key} goes through what is no interface (any more)"));
            continue;
        }
        let interface = route.interface.clone();
        let mut asset = ScannedAsset::new(key.clone(), key, Details::Route(route));
        if !interface.is_empty() {
            asset = asset.related(RelationType::GoesThrough, AssetKind::NetworkInterface, interface);
        }
        scan.assets.push(asset);
    }
    if left_out > 0 {
        scan.warnings.push(format!("{left_out} routes beyond {MAX_ROUTES} of a family are left out"));
    }
    Ok(scan)
}

fn of_ipv4(route: &Ipv4Route) -> RouteDetails {
    let nowhere = if route.reject { "unreachable" } else { "blackhole" };
    RouteDetails {
        family: "ipv4".to_owned(),
        destination: destination(&route.destination, route.length),
        gateway: shown_unless(&route.gateway, route.gateway.is_unspecified()),
        interface: route.interface.clone(),
        metric: route.metric,
        r#type: if route.interface.is_empty() { nowhere } else { "unicast" }.to_owned(),
    }
}

fn of_ipv6(route: &Ipv6Route) -> RouteDetails {
    RouteDetails {
        family: "ipv6".to_owned(),
        destination: destination(&route.destination, route.length),
        gateway: shown_unless(&route.gateway, route.gateway.is_unspecified()),
        interface: if route.reject { String::new() } else { route.interface.clone() },
        metric: route.metric,
        r#type: if route.reject { "unreachable" } else { "unicast" }.to_owned(),
    }
}

/// Flags alone do not tell `prohibit` from `unreachable` and `throw` from
/// `blackhole`; `fib_trie` does, though not for which metric.
fn name_refusals(host: &HostRoot, routes: &mut [RouteDetails]) -> Result<(), ProbeError> {
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    fib_entries(host, |entry| {
        if matches!(entry.kind.as_str(), "PROHIBIT" | "THROW") {
            kinds.insert(destination(&entry.network, entry.length), entry.kind.to_lowercase());
        }
    })
    .map_err(ProbeError::read(FIB_TRIE))?;
    for route in routes.iter_mut().filter(|route| route.interface.is_empty()) {
        if let Some(kind) = kinds.get(&route.destination) {
            route.r#type.clone_from(kind);
        }
    }
    Ok(())
}

fn destination(network: &impl ToString, length: u32) -> String {
    if length == 0 { "default".to_owned() } else { format!("{}/{length}", network.to_string()) }
}

fn shown_unless(address: &impl ToString, unspecified: bool) -> String {
    if unspecified { String::new() } else { address.to_string() }
}

/// As `ip route` writes it.
fn natural_key(route: &RouteDetails) -> String {
    let mut key = format!("{}/{}", route.family, route.destination);
    for (word, value) in [("via", &route.gateway), ("dev", &route.interface)] {
        if !value.is_empty() {
            key.push_str(&format!(" {word} {value}"));
        }
    }
    key.push_str(&format!(" metric {}", route.metric));
    key
}

#[cfg(test)]
mod tests;
