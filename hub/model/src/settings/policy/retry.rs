//! `retry` of a rule.

use std::sync::Arc;

use figspan_settings::Section;

use crate::routing::policy::{GrpcCodes, RetryPolicy};
use crate::settings::keys;

/// Most retries of a request. The data path's own bound on endpoints per request is 8.
const MAX_ATTEMPTS: u64 = 7;

pub(super) fn retry(rule: &Section<'_>) -> Option<RetryPolicy> {
    let section = rule.section("retry", &keys::RETRY)?;
    let default = RetryPolicy::default();
    let attempts = section.get("attempts").and_then(|item| item.number(0..=MAX_ATTEMPTS)).and_then(|n| u32::try_from(n).ok());
    let mut codes: Vec<u16> = Vec::new();
    for item in section.get("codes").map(|list| list.items()).unwrap_or_default() {
        let Some(code) = item.number(400..=599).and_then(|code| u16::try_from(code).ok()) else { continue };
        if codes.contains(&code) {
            item.wrong(format!("{code} is listed twice"), "remove one");
        }
        codes.push(code);
    }
    codes.sort_unstable();
    let mut grpc_codes = GrpcCodes::default();
    for item in section.get("grpc_codes").map(|list| list.items()).unwrap_or_default() {
        if let Some(code) = item.choice(&GrpcCodes::WORDS) {
            grpc_codes.insert(code);
        }
    }
    let idempotent = section.get("idempotent").and_then(|item| item.text()).map(Arc::from);
    if let (Some(item), false, None) = (section.get("grpc_codes"), grpc_codes.is_empty(), &idempotent) {
        item.wrong(
            "has no effect: gRPC calls are POSTs, and a POST that a workload may have seen is not repeated",
            "add idempotent = \"why these calls may be repeated\", or remove it",
        );
    }
    Some(RetryPolicy {
        attempts: attempts.unwrap_or(default.attempts),
        backoff: section.get("backoff").map_or(default.backoff, |item| item.duration_or_off().flatten().unwrap_or_default()),
        codes,
        grpc_codes,
        idempotent,
        hedge: section.get("hedge").and_then(|item| item.duration()),
    })
}
