//! `failover` of a rule or of a TCP or TLS route.

use std::sync::Arc;

use figspan_settings::Section;

use crate::health::Failover;
use crate::routing::draft::BackendDraft;
use crate::settings::{keys, statuses};

/// What is asked, of a rule for requests (`http`) or for connections.
pub(in crate::settings) fn failover(rule: &Section<'_>, backends: &[BackendDraft], http: bool) -> Option<Arc<Failover>> {
    let section = rule.section("failover", &keys::FAILOVER)?;
    let default = Failover::default();
    let number = |key: &str, default| {
        let read = section.get(key).and_then(|item| item.number(1..=u64::from(Failover::MOST)));
        read.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
    };
    let asked = Failover {
        on_status: section.get("on_status").and_then(|item| statuses::errors(&item)).unwrap_or_default(),
        latency: section.get("latency").and_then(|item| item.duration()),
        failures: number("failures", default.failures),
        answers: number("answers", default.answers),
        hold: section.get("hold").and_then(|item| item.duration()).unwrap_or(default.hold),
        failback: section.get("failback").map_or(default.failback, |item| item.duration_or_off().flatten().unwrap_or_default()),
    };
    if let (Some(item), false) = (section.get("on_status"), http) {
        item.wrong("is for requests: a connection has no status", "remove it; what is not connected is a failure anyway");
    }
    if asked.failures > asked.answers {
        section.wrong(
            format!("failures ({}) is more than answers ({}), so no answer would ever make a tier fail", asked.failures, asked.answers),
            "raise answers, or lower failures",
        );
    }
    if let Some(first) = backends.first()
        && backends.iter().all(|backend| backend.fallback == first.fallback)
    {
        section.wrong("has nowhere to go: all backends are in one tier", "give one of backend_refs fallback = 1, or remove failover");
    }
    Some(Arc::new(asked))
}

#[cfg(test)]
mod tests {
    use crate::health::Failover;
    use crate::settings::parse_with;

    fn read(failover: &str, second: &str) -> Result<Option<Failover>, Vec<String>> {
        let text = format!(
            "[[http_route]]\nname = 'r'\n[[http_route.rules]]\nbackend_refs = [{{ uplink = 'a' }}, {{ uplink = 'b'{second} }}]\nfailover = {failover}\n"
        );
        let loaded = parse_with(&text, "hub.toml", &|_, _| Ok(vec![]));
        let policy = loaded.map(|loaded| loaded.routing.http_routes[0].rules[0].policy.clone());
        policy.map(|policy| policy?.failover.as_deref().cloned()).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn all_keys_are_read_and_none_is_needed() {
        assert_eq!(read("{}", ", fallback = 1"), Ok(Some(Failover::default())));
        let asked = read(
            "{ on_status = [500, '502-504'], latency = '2s', failures = 3, answers = 4, hold = '1m', failback = '0s' }",
            ", fallback = 1",
        );
        let asked = asked.unwrap().unwrap();
        assert!([500, 502, 503, 504].iter().all(|status| asked.on(*status)) && !asked.on(501) && !asked.on(505));
        assert_eq!((asked.failures, asked.answers, asked.latency), (3, 4, Some(std::time::Duration::from_secs(2))));
        assert_eq!((asked.hold.as_secs(), asked.failback.as_secs()), (60, 0));
    }

    #[test]
    fn what_could_never_act_is_refused_with_its_line_and_a_mend() {
        for (asked, second, words) in [
            ("{}", "", "nowhere to go: all backends are in one tier; give one of backend_refs fallback = 1"),
            ("{ failures = 11 }", ", fallback = 1", "failures (11) is more than answers (10)"),
            ("{ answers = 33 }", ", fallback = 1", "33 is out of range; use 1 to 32"),
            ("{ on_status = [200] }", ", fallback = 1", "200 is out of range; use 400 to 599"),
            ("{ on_status = ['5xx'] }", ", fallback = 1", "`5xx` are no error statuses"),
            ("{ hold = '0s' }", ", fallback = 1", "is zero"),
            ("{ fail = 1 }", ", fallback = 1", "is not a key here"),
        ] {
            let errors = read(asked, second).unwrap_err();
            assert!(errors.len() == 1 && errors[0].starts_with("hub.toml:5:") && errors[0].contains(words), "{asked}: {errors:?}");
        }
    }

    #[test]
    fn connections_have_no_status() {
        let text = "[[listener]]\nname = 'db'\naddress = '127.0.0.1:0'\nprotocol = 'TCP'\n[[tcp_route]]\nname = 'db'\nlisteners = ['db']\n\
                    backend_refs = [{ uplink = 'a' }, { uplink = 'b', fallback = 1 }]\nfailover = { on_status = [500], hold = '1s' }\n";
        let errors = parse_with(text, "hub.toml", &|_, _| Ok(vec![])).unwrap_err();
        assert!(errors[0].to_string().contains("a connection has no status"), "{errors:?}");
        let loaded = parse_with(&text.replace("on_status = [500], ", ""), "hub.toml", &|_, _| Ok(vec![])).unwrap();
        assert_eq!(loaded.routing.stream_routes[0].failover.as_ref().unwrap().hold.as_secs(), 1);
    }
}
