//! Mirrors: what became of copies, and how their answers compare.

use figspan_proto::admin::{Mirror, Route};

use crate::table::table;

/// All mirrors of all rules.
pub(crate) fn many(routes: &[Route]) -> String {
    let rows = routes.iter().flat_map(|route| {
        route.rules.iter().flat_map(move |rule| {
            let name = rule.name.clone().unwrap_or_else(|| rule.index.to_string());
            rule.mirrors.iter().map(move |mirror| row(format!("{}/{name}", route.name), mirror))
        })
    });
    let header = ["ROUTE", "MIRROR", "COPIES", "ANSWERED", "FAILED", "DROPPED", "COMPARED", "ALIKE", "STATUS", "BODY", "CLIENT", "COPY"];
    table("no mirror", header, rows)
}

/// The mirrors of a rule with examples of what differed; nothing where there is none.
pub(crate) fn of_rule(mirrors: &[Mirror]) -> String {
    let examples = mirrors.iter().flat_map(|mirror| {
        mirror.examples.iter().map(|example| {
            [example.at.clone(), mirror.name.clone(), format!("{} {}", example.method, example.path), example.difference.clone()]
        })
    });
    let lines = mirrors.iter().map(|mirror| {
        let alike = mirror.match_percent.map(|percent| format!(", {percent:.1} % alike")).unwrap_or_default();
        format!(
            "mirror {} {}: {} copies, {} answered, {} failed, {} dropped, {} compared{alike}",
            mirror.kind, mirror.name, mirror.begun, mirror.answered, mirror.failed, mirror.dropped, mirror.compared
        )
    });
    let mut text: String = lines.map(|line| figspan_proto::control::plain(&line) + "\n").collect();
    if mirrors.iter().any(|mirror| !mirror.examples.is_empty()) {
        text += &table("", ["AT", "MIRROR", "REQUEST", "DIFFERENCE"], examples);
        text.push('\n');
    }
    text
}

fn row(rule: String, mirror: &Mirror) -> [String; 12] {
    let ms = |ms: Option<f64>| ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default();
    [
        rule,
        format!("{} {}", mirror.kind, mirror.name),
        mirror.begun.to_string(),
        mirror.answered.to_string(),
        mirror.failed.to_string(),
        mirror.dropped.to_string(),
        mirror.compared.to_string(),
        mirror.match_percent.map(|percent| format!("{percent:.1} %")).unwrap_or_default(),
        mirror.other_status.to_string(),
        mirror.other_body.to_string(),
        ms(mirror.primary_ms),
        ms(mirror.mirror_ms),
    ]
}
