//! What would become of a connection to a listener whose bytes are not looked into: its route, its backends, where it would go.
//!
//! As with requests, the functions of the data path decide; nothing is opened and nothing counts.

use std::net::IpAddr;
use std::sync::Arc;

use figspan_data::admission::forwarded;
use figspan_data::tcp;
use figspan_model::routing::{Listener, ListenerProtocol, Proxies, Routing, StreamRoute};
use figspan_proto::admin::{Decision, ExplainConnection, Explanation};
use figspan_proto::control::plain;
use http::StatusCode;

use super::{World, attempts, decisions, nothing};
use crate::admin::{policies, routes};
use crate::problem::Refusal;
use crate::standing::Place;

/// Explains. Fails only where the question itself makes no sense.
pub(in super::super) fn explain(world: &World<'_>, asked: &ExplainConnection) -> Result<Explanation, Refusal> {
    let routing = &*world.snapshot.routing;
    let missing = || Refusal::new(StatusCode::NOT_FOUND, "no such listener", "GET /v1/status lists those there are");
    let listener = routing.listeners.iter().find(|listener| *listener.name == *asked.listener).ok_or_else(missing)?;
    let address = asked.client.as_deref().map(str::parse::<IpAddr>).transpose();
    let address = address.map_err(|_| wrong("the client's address cannot be read", "write an IP address such as 10.1.2.3"))?;
    let name = asked.server_name.as_deref().map(plain);

    let mut told = Explanation { why: vec![format!("listener {}", listener.name)], ..nothing() };
    let route = route(routing, listener, name.as_deref(), &mut told)?;
    let refused = match (client(listener, address, &routing.proxies, &mut told), route) {
        (Err(refused), _) => Some(refused),
        (Ok(()), None) if listener.protocol == ListenerProtocol::Tcp => Some("no route names this listener: the connection is reset"),
        (Ok(()), None) => Some("no route takes that server name: the connection ends with the alert unrecognized_name"),
        (Ok(()), Some(route)) => {
            told.route = Some(route.name.to_string());
            told.why.push(format!("route {} takes it", route.name));
            routed(world, route, &mut told);
            told.attempts.is_empty().then_some("nobody can take it: the connection is reset")
        }
    };
    told.refused = refused.map(str::to_owned);
    Ok(told)
}

fn wrong(what: &str, mend: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, what.to_owned(), mend)
}

/// The route that takes it, as a shard finds it.
fn route<'r>(
    routing: &'r Routing,
    on: &Listener,
    name: Option<&str>,
    told: &mut Explanation,
) -> Result<Option<&'r Arc<StreamRoute>>, Refusal> {
    match (&on.protocol, name) {
        (ListenerProtocol::Tcp, None) => {
            told.target = format!("tcp {}", on.name);
            Ok(routing.matcher().tcp(&on.name))
        }
        (ListenerProtocol::Tcp, Some(_)) => {
            Err(wrong("a TCP listener looks at no server name", "leave it out, or name a listener with protocol = \"TLS\""))
        }
        (ListenerProtocol::TlsPassthrough, name) => {
            told.target =
                format!("tls {} {}", on.name, name.map_or_else(|| "without a server name".to_owned(), |name| format!("for {name}")));
            let (route, story) = routing.matcher().explain_tls(&on.name, name);
            told.why.extend(story);
            Ok(route)
        }
        (ListenerProtocol::Http | ListenerProtocol::Https { .. }, _) => {
            Err(wrong("that listener takes requests, not connections", "figspanctl explain METHOD URL --listener NAME"))
        }
    }
}

/// Whose connection it is, or why the listener does not take it.
fn client(on: &Listener, from: Option<IpAddr>, proxies: &Proxies, told: &mut Explanation) -> Result<(), &'static str> {
    let (says, taken) = match (on.accept_proxy_protocol, from) {
        (true, None) => ("the PROXY header of a trusted proxy says who the client is".to_owned(), true),
        (true, Some(proxy)) if forwarded::is_trusted(proxy, proxies) => {
            (format!("{proxy} is a trusted proxy: its PROXY header says who the client is"), true)
        }
        (true, Some(other)) => (format!("{other} is no trusted proxy; see proxies.trusted"), false),
        (false, None) => ("its own address is the client's".to_owned(), true),
        (false, Some(client)) => (format!("{client} is the client, and no header says otherwise"), true),
    };
    told.decisions.push(Decision { step: "client".to_owned(), says: vec![says] });
    if taken { Ok(()) } else { Err("this listener serves trusted proxies only: the connection is reset") }
}

/// What the route's policies do with it, and where it would go.
fn routed(world: &World<'_>, route: &StreamRoute, told: &mut Explanation) {
    let place = Place::from(route);
    let limit =
        format!("each shard has up to {} connections of clients; more wait to be accepted", world.snapshot.routing.limits.connections);
    let silence = route.timeouts.idle.map(|idle| format!("{} of silence", policies::time(idle)));
    let timeouts = std::iter::once(format!("{} to reach the workload", policies::time(route.timeouts.connect))).chain(silence).collect();
    let steps = [
        ("limits", vec![limit]),
        ("backends", decisions::standings(world, &route.backends)),
        ("failover", decisions::tiers(place)),
        ("timeouts", timeouts),
    ];
    let said = steps.into_iter().filter(|(_, says)| !says.is_empty());
    told.decisions.extend(said.map(|(step, says)| Decision { step: step.to_owned(), says }));
    told.policies = route.failover.as_deref().map(policies::failover).into_iter().collect();
    told.backends = routes::backends(world.snapshot, world.book, place);
    told.tiers = routes::tiers(place);
    told.attempts = attempts::of(world, place, None, None, &mut told.why);
    told.next = told.attempts.first().cloned();
    told.retried = vec![
        format!("no workload saw it: always, while what its client said fits {} KiB", tcp::KEPT / 1024),
        "a workload may have seen it: never, the connection is reset".to_owned(),
    ];
}

#[cfg(test)]
mod tests;
