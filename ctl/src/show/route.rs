//! Routes, and why a request goes where it goes.

use figspan_proto::admin::{Decision, Explanation, Route, RuleBackend, Tier};

use super::mirror;
use crate::table::{fields, indent, list, table};

/// All routes, a line for each backend of each rule.
pub(crate) fn many(routes: &[Route]) -> String {
    let rows = routes.iter().flat_map(|route| {
        route.rules.iter().flat_map(move |rule| {
            rule.backends.iter().map(move |backend| {
                [
                    format!("{}/{}", route.name, name(rule)),
                    route.kind.clone(),
                    list(&route.listeners),
                    list(&route.hostnames),
                    rule.matches.join(" or "),
                    format!("{} {}", backend.kind, backend.name),
                    tier(&rule.tiers, backend),
                    weight(backend),
                    percent(backend.share_wanted),
                    observed(backend),
                    format!("{}/{}", backend.ready_endpoints, backend.endpoints),
                ]
            })
        })
    });
    table("no route", ["ROUTE", "KIND", "LISTENERS", "HOSTS", "MATCHES", "BACKEND", "TIER", "WEIGHT", "WANTED", "OBSERVED", "READY"], rows)
}

/// Everything about one.
pub(crate) fn whole(route: &Route) -> String {
    let about = fields([
        ("Name", route.name.clone()),
        ("Kind", route.kind.clone()),
        ("Listeners", list(&route.listeners)),
        ("Hosts", list(&route.hostnames)),
    ]);
    let rule = |rule: &figspan_proto::admin::Rule| {
        let matches = if rule.matches.is_empty() { "everything".to_owned() } else { rule.matches.join("\n     or ") };
        let matches = matches.lines().map(figspan_proto::control::plain).collect::<Vec<_>>().join("\n");
        let policies: String = rule.policies.iter().map(|policy| format!("  {}\n", figspan_proto::control::plain(policy))).collect();
        let mirrors = mirror::of_rule(&rule.mirrors);
        let mirrors = if mirrors.is_empty() { mirrors } else { indent(&mirrors) + "\n" };
        format!("Rule {}: {matches}\n{policies}{mirrors}{}", name(rule), indent(&backends(&rule.tiers, &rule.backends)))
    };
    std::iter::once(about).chain(route.rules.iter().map(rule)).collect::<Vec<_>>().join("\n")
}

/// Which rule, which backend, and why.
pub(crate) fn explanation(explanation: &Explanation) -> String {
    let rule = explanation.rule_name.clone().or_else(|| explanation.rule.map(|rule| rule.to_string()));
    let rule = rule.map(|rule| format!("/{rule}")).unwrap_or_default();
    let about = fields([
        ("Target", explanation.target.clone()),
        ("Refused", explanation.refused.clone().unwrap_or_else(|| "no".to_owned())),
        ("Rule", explanation.route.as_ref().map(|route| format!("{route}{rule}")).unwrap_or_default()),
        ("Next", explanation.next.clone().unwrap_or_default()),
        ("Hub's own answer", explanation.status.map(|status| status.to_string()).unwrap_or_default()),
    ]);
    let lines = |lines: &[String]| indent(&lines.iter().map(|line| figspan_proto::control::plain(line)).collect::<Vec<_>>().join("\n"));
    let part = |name: &str, list: &[String]| if list.is_empty() { String::new() } else { format!("\n{name}:\n{}", lines(list)) };
    let decisions = explanation.decisions.iter().flat_map(|Decision { step, says }| says.iter().map(move |said| format!("{step}: {said}")));
    let attempts: Vec<String> = explanation.attempts.iter().enumerate().map(|(at, to)| format!("{}. {to}", at + 1)).collect();
    format!(
        "{about}\nWhy:\n{}{}{}\nBackends:\n{}{}{}",
        lines(&explanation.why),
        part("Policies", &explanation.policies),
        part("What they do with it", &decisions.collect::<Vec<_>>()),
        indent(&backends(&explanation.tiers, &explanation.backends)),
        part("Attempts, if each fails", &attempts),
        part("Goes on to the next one when", &explanation.retried),
    )
}

fn backends(tiers: &[Tier], backends: &[RuleBackend]) -> String {
    let row = |backend: &RuleBackend| {
        [
            format!("{} {}", backend.kind, backend.name),
            tier(tiers, backend),
            weight(backend),
            percent(backend.share_wanted),
            observed(backend),
            backend.picked.to_string(),
            format!("{}/{}", backend.ready_endpoints, backend.endpoints),
        ]
    };
    table("no backend", ["BACKEND", "TIER", "WEIGHT", "WANTED", "OBSERVED", "PICKED", "READY"], backends.iter().map(row))
}

/// The tier of a backend, and how that stands where it is not up.
fn tier(tiers: &[Tier], backend: &RuleBackend) -> String {
    let number = backend.tier;
    let Some(tier) = tiers.iter().find(|tier| tier.tier == number) else { return number.to_string() };
    let cause = tier.cause.as_deref().map(|cause| format!(" ({cause})")).unwrap_or_default();
    let left = tier.seconds_left.unwrap_or_default();
    match tier.state.as_str() {
        "held" => format!("{number} held for {left:.1} s{cause}"),
        "failing-back" => format!("{number} failing back, {} for {left:.1} s{cause}", percent(tier.share)),
        _ => number.to_string(),
    }
}

/// What a rule is called: by its name, else by its place.
fn name(rule: &figspan_proto::admin::Rule) -> String {
    rule.name.clone().unwrap_or_else(|| rule.index.to_string())
}

/// The share of the last minute.
fn observed(backend: &RuleBackend) -> String {
    backend.share_observed.map(percent).unwrap_or_default()
}

/// The weight in force, and the file's where it says another.
fn weight(backend: &RuleBackend) -> String {
    match backend.weight {
        Some(weight) if weight != backend.effective_weight => format!("{} (file: {weight})", backend.effective_weight),
        _ => backend.effective_weight.to_string(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
