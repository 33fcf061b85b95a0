//! Pins: who may reach a chosen backend of a rule, whatever its weight there, and who may not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::h2;
use figspan_tests::process::eventually;
use figspan_tests::web::{Message, Workload, ok};
use figspan_tunnel::pin::PinKey;

const KEY: &str = "6d1f0a1a5e2f4c7b8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e";

/// A key file as the hub wants it: nobody else can read it.
fn key(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn ask(bed: &Bed, fields: &str) -> Message {
    bed.client().ask("GET", "/", fields, b"").unwrap()
}

/// How often a wish ended so.
fn wishes(bed: &Bed, outcome: &str) -> u64 {
    let name = format!("figspan_pins_total{{outcome=\"{outcome}\"}}");
    bed.metrics().lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_signed_header_reaches_a_backend_of_weight_0_and_nothing_else_does() {
    let files = tempfile::tempdir().unwrap();
    let (file, other) = (key(files.path(), "pin.key", KEY), key(files.path(), "other.key", &KEY.replace('6', "7")));
    let old = Workload::named("old");
    let new = Workload::http(|request| ok(&format!("new {}", request.fields.keys().any(|name| name.contains("figspan")))));
    let rule = rule("{ uplink = \"old\" }, { uplink = \"new\", weight = 0 }")
        + &format!("pins = [{{ backend = {{ uplink = \"new\" }}, key_file = \"{file}\" }}]\n");
    let bed = Bed::start(&http(&rule)).agent("vm-1", &(old.uplink("old", "") + &new.uplink("new", ""))).ready("old", 1).ready("new", 1);
    let made = |key: &str, uplink: &str| {
        let made = bed.hub.ctl(&["pin", "--key-file", key, "--uplink", uplink, "--ttl", "1m"]);
        assert!(made.status.success(), "{made:?}");
        let line = String::from_utf8(made.stdout).unwrap().trim_end().to_owned();
        assert!(line.starts_with("x-figspan-pin: uplink/"), "{line}");
        line
    };
    let pin = made(&file, "new");
    for _ in 0..5 {
        assert_eq!(ask(&bed, &format!("{pin}\r\n")).text(), "new false", "the wish itself goes no further");
        assert_eq!(bed.get("/").text(), "old", "weight 0 gets nothing else");
    }
    let value = pin.split_once(": ").unwrap().1;
    let request = ::http::Request::get("http://shop.example/").header("x-figspan-pin", value).body(Bytes::new()).unwrap();
    assert_eq!(h2::ask(bed.web(), request, Default::default()).body, b"new false", "over HTTP/2 it means the same");
    assert_eq!(wishes(&bed, "used"), 6);

    let expired = PinKey::read(KEY.as_bytes()).unwrap().sign("uplink/new", now() - 1);
    let later = value.replacen("expires=", "expires=9", 1);
    for (wish, outcome) in [
        (made(&other, "new"), "forged"),
        (format!("x-figspan-pin: {later}"), "forged"),
        (format!("x-figspan-pin: {expired}"), "expired"),
        ("x-figspan-pin: uplink/new".to_owned(), "malformed"),
        (made(&file, "old"), "elsewhere"),
        // Another spelling is not the field, and goes no further than it.
        (pin.replace("x-figspan-pin", "X_Figspan_Pin"), ""),
    ] {
        let before = wishes(&bed, outcome);
        assert_eq!(ask(&bed, &format!("{wish}\r\n")).text(), "old", "{wish}");
        assert_eq!(wishes(&bed, outcome), before + u64::from(!outcome.is_empty()), "{wish}");
    }
}

#[test]
fn a_pinned_request_to_what_is_drained_or_not_ready_is_a_503_and_never_goes_elsewhere() {
    let files = tempfile::tempdir().unwrap();
    let file = key(files.path(), "pin.key", KEY);
    let (old, new) = (Workload::named("old"), Workload::named("new"));
    let rule = rule("{ uplink = \"old\" }, { uplink = \"new\" }")
        + &format!("pins = [{{ backend = {{ uplink = \"new\" }}, key_file = \"{file}\" }}]\n");
    let check = "health = { type = \"tcp\", interval = \"100ms\", rise = 1, fall = 1 }";
    let bed =
        Bed::start(&http(&rule)).agent("vm-1", &(old.uplink("old", check) + &new.uplink("new", check))).ready("old", 1).ready("new", 1);
    let pin = PinKey::read(KEY.as_bytes()).unwrap().sign("uplink/new", now() + 600);
    let pinned = || ask(&bed, &format!("x-figspan-pin: {pin}\r\n"));
    assert_eq!(pinned().text(), "new");
    assert!(bed.hub.ctl(&["drain", "uplink", "new", "--reason", "test", "--wait", "--timeout", "10s"]).status.success());
    let refused = pinned();
    assert_eq!((refused.status(), refused.field("figspan-reason"), refused.field("retry-after")), (503, "all-drained", "1"));
    assert!(refused.field("proxy-status").contains("destination_unavailable"), "{refused:?}");
    assert!(bed.hub.ctl(&["undrain", "uplink", "new", "--reason", "test", "--wait"]).status.success());
    assert_eq!(pinned().text(), "new");
    drop(new);
    eventually("its agent sees that it is gone", Duration::from_secs(10), || pinned().field("figspan-reason") == "nobody-ready");
    let before = old.seen();
    assert_eq!(pinned().status(), 503);
    assert_eq!(old.seen(), before, "a pinned request never goes elsewhere");
    assert_eq!(bed.get("/").text(), "old");
}

#[test]
fn trusted_addresses_may_name_a_backend_and_an_address_that_a_client_claims_is_worth_nothing() {
    let (old, new, canary) = (Workload::named("old"), Workload::named("new"), Workload::named("canary"));
    let rule = rule("{ uplink = \"old\" }, { uplink = \"new\", weight = 0 }, { uplink = \"canary\", weight = 0 }")
        + "pins = [{ backend = { uplink = \"new\" }, trusted = [\"10.1.0.0/16\"] }, { backend = { uplink = \"canary\" }, trusted = [\"10.2.0.7/32\"], always = true }]\n";
    let uplinks = old.uplink("old", "") + &new.uplink("new", "") + &canary.uplink("canary", "");
    let trusting = |trusted: &str| format!("[proxies]\ntrusted = [{trusted}]\n\n{}", http(&rule));
    let bed = Bed::start(&trusting("\"127.0.0.0/8\"")).agent("vm-1", &uplinks).ready("old", 1).ready("new", 1).ready("canary", 1);
    let from = |address: &str, wish: &str| {
        let wish = if wish.is_empty() { String::new() } else { format!("x-figspan-pin: {wish}\r\n") };
        ask(&bed, &format!("x-forwarded-for: {address}\r\n{wish}")).text()
    };
    assert_eq!((from("10.1.9.9", "uplink/new"), from("10.1.9.9", "")), ("new".to_owned(), "old".to_owned()));
    assert_eq!((from("10.3.0.1", "uplink/new"), from("10.1.9.9", "service/new")), ("old".to_owned(), "old".to_owned()));
    assert_eq!((from("10.2.0.7", ""), from("10.2.0.8", "uplink/canary")), ("canary".to_owned(), "old".to_owned()));
    bed.hub.rewrite(&trusting(""));
    eventually("nobody's word counts any more", Duration::from_secs(5), || from("10.2.0.7", "") == "old");
    assert_eq!(from("10.1.9.9", "uplink/new"), "old");
}
