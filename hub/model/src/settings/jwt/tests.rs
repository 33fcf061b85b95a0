use std::path::Path;

use super::super::tests::JWKS;
use super::super::{Finding, Loaded, parse_with};
use super::*;
use crate::routing::HashOn;
use crate::routing::policy::{Per, RuleJwt};

const GOOD: &str = "name = 'id'\nissuer = 'https://id.example'\naudiences = ['shop']\njwks_file = 'jwks.json'\n";

fn read(text: &str) -> Result<Loaded, Vec<Finding>> {
    parse_with(text, "/etc/figspan-hub/hub.toml", &|path, _| match path.file_name().and_then(|name| name.to_str()) {
        Some("jwks.json") => Ok(JWKS.into()),
        Some("oct.json") => Ok(br#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#.to_vec()),
        _ => Err("no such file".to_owned()),
    })
}

fn around(provider: &str, rule: &str) -> String {
    let listener = "[[listener]]\nname = 'web'\naddress = '127.0.0.1:80'\nprotocol = 'HTTP'\n";
    format!(
        "[[jwt_provider]]\n{provider}{listener}[[http_route]]\nname = 'r'\n[[http_route.rules]]\nbackend_refs = [{{ uplink = 'u' }}]\n{rule}\n"
    )
}

fn one(findings: Result<Loaded, Vec<Finding>>, text: &str) -> String {
    let findings = findings.map(drop).expect_err(text);
    assert_eq!(findings.len(), 1, "{text}: {findings:#?}");
    findings[0].to_string()
}

fn jwt(loaded: &Loaded) -> &RuleJwt {
    loaded.routing.http_routes[0].rules[0].policy.as_ref().and_then(|policy| policy.jwt.as_ref()).expect("a rule with tokens")
}

#[test]
fn a_provider_has_defaults_and_a_rule_uses_its_claims() {
    let rule = "jwt = { provider = 'id', claims_to_headers = [{ claim = 'sub', header = 'X-Claim-Sub' }, { claim = 'tenant', header = 'x-tenant' }] }
        hash = { on = 'claim:sub' }
        rate_limits = [{ per = 'claim:plan.id', requests = 1, period = '1s' }]
        in_flight = { per = 'claim:tenant', max = 1 }";
    let loaded = read(&around(GOOD, rule)).unwrap();
    assert_eq!(loaded.warnings, []);
    let jwt = jwt(&loaded);
    let terms = Terms { issuer: "https://id.example".into(), audiences: vec!["shop".into()], ..Terms::default() };
    assert_eq!((&jwt.provider.terms, jwt.required), (&terms, true));
    assert_eq!((terms.clock_skew, terms.prefix.as_str(), terms.forward), (Duration::from_secs(60), "Bearer", true));
    assert_eq!(jwt.provider.jwks_file, Path::new("/etc/figspan-hub/jwks.json"));
    assert_eq!(jwt.names(), ["sub", "tenant", "plan.id"]);
    let fields: Vec<(usize, &str)> = jwt.headers.iter().map(|(claim, field)| (*claim, field.as_str())).collect();
    assert_eq!(fields, [(0, "x-claim-sub"), (1, "x-tenant")]);
    let policy = loaded.routing.http_routes[0].rules[0].policy.as_ref().unwrap();
    assert_eq!(policy.hash, Some(HashOn::Claim("sub".into())));
    assert_eq!(policy.rate_limits[0].per, Per::Claim("plan.id".into()));
    assert_eq!(loaded.routing.jwt_providers.len(), 1);
    let all = "prefix = ''\nclock_skew = '0s'\nheader = 'X-Token'\nforward = false\nmax_token_bytes = '4KiB'\nalgorithms = ['ES256']\n";
    let loaded = read(&around(&format!("{GOOD}{all}"), "jwt = { provider = 'id', required = false }")).unwrap();
    let (jwt, terms) = (self::jwt(&loaded), &self::jwt(&loaded).provider.terms);
    assert_eq!((terms.clock_skew, terms.header.as_str(), terms.prefix.as_str()), (Duration::ZERO, "x-token", ""));
    assert_eq!((terms.forward, terms.max_token_bytes, jwt.required), (false, 4096, false));
    assert_eq!(terms.algorithms, [jsonwebtoken::Algorithm::ES256]);
}

#[test]
fn whatever_is_wrong_with_a_provider_is_said_with_its_mend() {
    for (key, wrong, why) in [
        ("issuer", "issuer = ''", "is empty"),
        ("issuer", "", "issuer: is missing"),
        ("audiences", "audiences = []", "has 0 entries"),
        ("audiences", "", "audiences: is missing"),
        ("jwks_file", "jwks_file = 'oct.json'", "is symmetric (kty oct)"),
        ("jwks_file", "jwks_file = 'none.json'", "cannot be read"),
        ("jwks_file", "", "jwks_file: is missing"),
        ("", "algorithms = ['HS256']", "HS256"),
        ("", "algorithms = ['none']", "none"),
        ("", "algorithms = []", "is empty"),
        ("", "algorithms = ['RS256']", "has no key for signatures with the algorithms"),
        ("", "clock_skew = '11m'", "is out of range"),
        ("", "header = 'x_token'", "cannot carry a token"),
        ("", "header = 'cookie'", "cannot carry a token"),
        ("", "header = 'x-forwarded-for'", "cannot carry a token"),
        ("", "prefix = 'a b'", "is no word"),
        ("", "max_token_bytes = '1MiB'", "max_token_bytes"),
        ("", "jwks_uri = 'https://id.example/keys'", "is not a key here"),
    ] {
        let kept = GOOD.lines().filter(|line| key.is_empty() || !line.starts_with(key));
        let provider: String = kept.chain([wrong]).map(|line| format!("{line}\n")).collect();
        let text = around(&provider, "jwt = { provider = 'id' }");
        let finding = one(read(&text), &text);
        assert!(finding.contains(why), "{wrong}: {finding}");
    }
    let twice = around(&format!("{GOOD}[[jwt_provider]]\n{GOOD}"), "jwt = { provider = 'id' }");
    assert!(one(read(&twice), &twice).contains("is taken by line"));
    let unused = read(&around(GOOD, "")).unwrap();
    assert!(unused.warnings.iter().any(|warning| warning.to_string().contains("id is used by no route")), "{:?}", unused.warnings);
}

#[test]
fn whatever_is_wrong_with_a_rules_tokens_is_said_with_its_mend() {
    let claims = |list: &str| format!("jwt = {{ provider = 'id', claims_to_headers = [{list}] }}");
    let header = |name: &str| claims(&format!("{{ claim = 'sub', header = '{name}' }}"));
    for (rule, why) in [
        ("jwt = { provider = 'ip' }".to_owned(), "provider ip does not exist; write \"id\""),
        ("jwt = {}".to_owned(), "provider: is missing"),
        ("hash = { on = 'claim:sub' }".to_owned(), "add jwt = { provider = "),
        ("rate_limits = [{ per = 'claim:sub', requests = 1, period = '1s' }]".to_owned(), "add jwt = { provider = "),
        ("in_flight = { per = 'claim:sub', max = 1 }".to_owned(), "add jwt = { provider = "),
        ("jwt = { provider = 'id' }\nhash = { on = 'claim:' }".to_owned(), "is not the name of a claim"),
        (claims("{ claim = 'a b', header = 'x-a' }"), "is not the name of a claim"),
        (claims("{ claim = '1.2.3.4.5.6.7.8.9.10', header = 'x-a' }"), "is not the name of a claim"),
        (claims("{ claim = 'a', header = 'x-a' }, { claim = 'b', header = 'X-A' }"), "carries another claim"),
        (claims("{ claim = 'a' }"), "header: is missing"),
        (header("x_claim"), "may be read as another name"),
        (header("x-forwarded-user"), "is the hub's own word"),
        (header("figspan-sub"), "is the hub's own word"),
        (header("host"), "has a meaning of its own"),
        (header("content-type"), "has a meaning of its own"),
        (header("cookie"), "has a meaning of its own"),
        (header("authorization"), "has a meaning of its own"),
    ] {
        let text = around(GOOD, &rule);
        let findings: Vec<String> = read(&text).map(drop).expect_err(&rule).iter().map(ToString::to_string).collect();
        assert!(findings.len() == 1 && findings[0].contains(why), "{rule}: {findings:#?}");
    }
    let own = around(&format!("{GOOD}header = 'x-token'\n"), &header("x-token"));
    assert!(one(read(&own), &own).contains("is the field of the provider's tokens"));
}
