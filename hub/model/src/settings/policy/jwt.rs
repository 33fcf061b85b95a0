//! `jwt` of a rule, and claims wherever a rule names one.

use figspan_settings::{Item, Section};
use http::{HeaderName, header};

use super::super::jwt::Providers;
use super::super::{keys, matches};
use crate::jwt::{MAX_DEPTH, MAX_NAME};
use crate::routing::policy::{Per, RuleJwt};
use crate::routing::{HashOn, RulePolicy, fields};

/// Claims of a rule that become fields.
const MAX_HEADERS: usize = 16;

/// `policy` is all else that the rule asks for: it may use claims too.
pub(super) fn jwt(rule: &Section<'_>, providers: &Providers, policy: &RulePolicy) -> Option<RuleJwt> {
    let section = rule.section("jwt", &keys::RULE_JWT)?;
    let provider = section.required("provider").and_then(|item| providers.find(&item));
    let required = section.get("required").and_then(|item| item.boolean()).unwrap_or(true);
    let list = section.sections("claims_to_headers", &keys::CLAIM_HEADER);
    if let (Some(item), true) = (section.get("claims_to_headers"), list.len() > MAX_HEADERS) {
        item.wrong(format!("has {} entries", list.len()), format!("use at most {MAX_HEADERS}"));
    }
    let mut headers: Vec<(String, HeaderName)> = Vec::new();
    for section in &list {
        let claim = section.required("claim").and_then(|item| name(&item, item.text()?));
        let header = section.required("header").and_then(|item| field(&item, &headers));
        headers.extend(claim.zip(header));
    }
    let provider = provider?;
    if let Some((_, header)) = headers.iter().find(|(_, header)| *header == provider.terms.header) {
        section.wrong(format!("{header} is the field of the provider's tokens"), "give the claim a field of its own");
    }
    let hash = policy.hash.iter().filter_map(|on| if let HashOn::Claim(name) = on { Some(&**name) } else { None });
    let limits = policy.rate_limits.iter().map(|limit| &limit.per).chain(policy.in_flight.iter().map(|limit| &limit.per));
    let limits = limits.filter_map(|per| if let Per::Claim(name) = per { Some(&**name) } else { None });
    Some(RuleJwt::new(provider, required, headers, hash.chain(limits)))
}

/// A claim of a rule's tokens, named by something else of the rule.
pub(super) fn claim(item: &Item<'_>, text: &str, rule: &Section<'_>) -> Option<String> {
    if rule.get("jwt").is_none() {
        item.wrong("needs the claims of a verified token, and this rule asks for none", "add jwt = { provider = \"...\" } to the rule");
        return None;
    }
    name(item, text)
}

fn name(item: &Item<'_>, text: &str) -> Option<String> {
    let good =
        (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) && text.matches('.').count() <= MAX_DEPTH;
    if !good {
        let mend = format!("write 1 to {MAX_NAME} visible characters without blanks, with at most {MAX_DEPTH} dots, as in \"sub\"");
        item.wrong(format!("`{}` is not the name of a claim", text.escape_debug()), mend);
    }
    good.then(|| text.to_owned())
}

/// A field that is a claim's alone.
fn field(item: &Item<'_>, others: &[(String, HeaderName)]) -> Option<HeaderName> {
    let name = matches::header_name(item)?;
    let bytes = name.as_str().as_bytes();
    let why = if fields::is_hubs(bytes) || fields::same(bytes, "proxy-status") {
        "is the hub's own word, which workloads rely on"
    } else if fields::is_of_the_hop(bytes) || fields::starts(bytes, "content-") || name == header::AUTHORIZATION || name == header::COOKIE {
        "has a meaning of its own"
    } else if fields::is_alias(bytes) {
        "may be read as another name: programs take all but letters and digits for '-'"
    } else if others.iter().any(|(_, other)| *other == name) {
        "carries another claim of this rule"
    } else {
        return Some(name);
    };
    item.wrong(format!("{name} {why}"), "use a name of letters, digits and '-' of your own, as in \"x-claim-sub\"");
    None
}
