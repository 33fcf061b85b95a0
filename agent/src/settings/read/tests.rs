use std::path::Path;
use std::time::Duration;

use super::*;
use crate::settings::load::load;
use crate::settings::{Address, Service};
use figspan_proto::name::ServiceName;
use figspan_proto::preamble::Kind;

fn read(text: &str) -> Result<Settings, String> {
    let mut reader = Reader::default();
    reader.read("agent.toml", text);
    reader.finish().map(|(settings, _)| settings).map_err(|errors| errors.iter().map(|error| format!("{error}\n")).collect())
}

#[test]
fn an_uplink_needs_a_name_and_an_address_and_has_defaults_for_all_else() {
    let settings = read("hubs = [\"hub.example:7443\"]\n[[uplink]]\nname = \"monolith\"\naddress = \"127.0.0.1:8080\"\n").unwrap();
    assert_eq!(settings.hubs, ["hub.example:7443"]);
    let expected = Uplink::new("monolith".parse().unwrap(), Address::Ip(([127, 0, 0, 1], 8080).into()), Protocol::Http1);
    assert_eq!(settings.uplinks, [expected]);
    assert_eq!(settings.drain_timeout, Duration::from_secs(30));
}

#[test]
fn every_key_is_read() {
    let settings = read(
        r#"
        name = "vm-1"
        hubs = ["hub.example", "10.0.0.1:7443", "[::1]:7443"]
        trust_domain = "shop.example"
        zone = "eu_West.1a"
        state_dir = "/tmp/x"
        workers = 2
        drain_timeout = "45s"
        tunnels_per_hub = 4
        max_streams = 77
        transport = "tcp"
        [status]
        socket = ""
        [metrics]
        address = "127.0.0.1:9465"
        [log]
        format = "json"
        level = "debug"
        [[uplink]]
        name = "db"
        address = "db.internal:5432"
        weight = 7
        protocol = "tcp"
        proxy_protocol = true
        max_connections = 5
        connect_timeout = "1s"
        idle_timeout = "10m"
        health = { type = "none", interval = "1s", timeout = "500ms", rise = 1, fall = 1 }
        [[uplink]]
        name = "shop"
        address = "127.0.0.1:1"
        health = { type = "http", path = "/healthz?x=1", host = "shop.example", status = "200-204, 401" }
        [[uplink]]
        name = "api"
        address = "127.0.0.1:2"
        protocol = "h2c"
        health = { type = "grpc", service = "api.v1" }
        "#,
    )
    .unwrap();
    assert_eq!((settings.workers, settings.tunnels_per_hub, settings.max_streams), (2, 4, 77));
    assert_eq!(settings.transport, Preference::Tcp);
    assert_eq!((settings.status_socket, settings.metrics), (None, Some(([127, 0, 0, 1], 9465).into())));
    let [db, shop, api] = &settings.uplinks[..] else { panic!("three uplinks") };
    assert_eq!(db.address, Address::Name("db.internal:5432".to_owned(), 5432));
    assert_eq!((db.weight.get(), db.proxy_protocol, db.max_connections), (7, true, 5));
    assert_eq!((db.idle_timeout, &db.health.check), (Some(Duration::from_secs(600)), &Check::None));
    let http = Check::Http { path: "/healthz?x=1".to_owned(), host: Some("shop.example".to_owned()), status: vec![200..=204, 401..=401] };
    assert_eq!(shop.health.check, http);
    assert_eq!(api.health.check, Check::Grpc { service: "api.v1".to_owned() });
}

#[test]
fn all_mistakes_are_told_at_once_with_place_and_mend() {
    let errors = read(
        r#"hub = ["a:1"]
hubs = ["no port:x"]
workers = 0
drain_timeout = "30"
[log]
format = "jsn"
[[uplink]]
name = "Monolith"
address = "localhost"
[[uplink]]
name = "shop"
address = "127.0.0.1:8080"
proxy_protocol = true
wieght = 5
health = { type = "tcp", path = "/x", status = "200" }
[[uplink]]
name = "shop"
address = "127.0.0.1:0"
protocol = "http2"
health = { type = "http", path = "x", status = "2xx" }
"#,
    )
    .unwrap_err();
    insta::assert_snapshot!(errors);
}

#[test]
fn the_uplink_past_the_limit_is_a_mistake() {
    let text: String =
        (0..=MAX_UPLINKS).map(|number| format!("[[uplink]]\nname = \"u{number}\"\naddress = \"127.0.0.1:{}\"\n", number + 1)).collect();
    let errors = read(&text).unwrap_err();
    assert!(errors.contains("this is uplink number 257") && errors.lines().count() == 1, "{errors}");
}

/// The sample files. A new one is added here, so that none is ever left unread.
const SAMPLES: [&str; 5] = ["call-a-service.toml", "full.toml", "grpc.toml", "minimal.toml", "tcp.toml"];

#[test]
fn every_sample_file_is_read_without_a_finding() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/samples/agent");
    let mut there: Vec<String> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    there.sort();
    assert_eq!(there, SAMPLES);
    for sample in SAMPLES {
        let mut reader = Reader::default();
        reader.read(sample, &std::fs::read_to_string(dir.join(sample)).unwrap());
        let (settings, warnings) = reader.finish().unwrap();
        assert!(warnings.is_empty() && !settings.uplinks.is_empty(), "{sample}: {warnings:?}");
    }
}

#[test]
fn an_operators_files_win_over_what_join_learned_and_uplinks_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir_all(state.join("agent.toml.d")).unwrap();
    std::fs::create_dir_all(dir.path().join("agent.toml.d")).unwrap();
    std::fs::write(state.join("agent.toml.d/10-join.toml"), "hubs = [\"from-join:1\"]\ntrust_domain = \"joined\"\n").unwrap();
    let file = dir.path().join("agent.toml");
    let uplink = |name: &str| format!("[[uplink]]\nname = \"{name}\"\naddress = \"127.0.0.1:1\"\n");
    std::fs::write(&file, format!("state_dir = {:?}\n{}", state, uplink("a"))).unwrap();
    std::fs::write(dir.path().join("agent.toml.d/20.toml"), uplink("b")).unwrap();
    let loaded = load(&file).unwrap();
    assert_eq!(loaded.settings.hubs, ["from-join:1"]);
    assert_eq!(loaded.files.len(), 3);
    assert_eq!(loaded.settings.uplinks.len(), 2);
    std::fs::write(dir.path().join("agent.toml.d/30.toml"), format!("hubs = [\"own:1\"]\n{}", uplink("a"))).unwrap();
    let errors = load(&file).unwrap_err();
    assert!(errors.len() == 1 && errors[0].to_string().contains("already declared in"), "{errors:?}");
    // What `join --uplink` kept gives way.
    std::fs::remove_file(dir.path().join("agent.toml.d/30.toml")).unwrap();
    let joined = format!("[[uplink]]\nname = \"a\"\naddress = \"127.0.0.1:9\"\n{}", uplink("c"));
    std::fs::write(state.join("agent.toml.d/10-join.toml"), joined).unwrap();
    let uplinks = load(&file).unwrap().settings.uplinks;
    let all: Vec<String> = uplinks.iter().map(|uplink| format!("{}={}", uplink.name, uplink.address)).collect();
    assert_eq!(all, ["c=127.0.0.1:1", "a=127.0.0.1:1", "b=127.0.0.1:1"]);
}

#[test]
fn a_file_that_is_not_there_is_one_clear_finding() {
    let errors = load(Path::new("/nonexistent/agent.toml")).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().starts_with("/nonexistent/agent.toml: file: cannot be read"), "{}", errors[0]);
}

/// `docs/reference/agent-toml.md` is written by this test where `FIGSPAN_WRITE` is set, and compared otherwise.
#[test]
fn the_reference_is_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/agent-toml.md");
    let head = "# agent.toml\n\nEvery key of the agent's file, `/etc/figspan-agent/agent.toml`. Made from the reader's own tables (`agent/src/settings/keys.rs`). Files beside it (`agent.toml.d/*.toml`) are read\n\
                after it, in the order of their names; single values of a later file win, uplinks add up. `figspan-agent check` says what is wrong.\nSamples are in `packaging/samples/agent`. After a change of the table: `FIGSPAN_WRITE=1 cargo test -p figspan-agent reference`.\n";
    let text = format!("{head}{}", figspan_settings::reference(keys::TABLES));
    if std::env::var_os("FIGSPAN_WRITE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(there, text, "run this test once with FIGSPAN_WRITE=1, and commit {}", file.display());
}

proptest::proptest! {
    #[test]
    fn no_mangled_file_makes_the_reader_panic(line in 0usize..60, cut in 0usize..60, junk in "\\PC{0,8}|[\\[\\]{}=\"'.,\n\r\t#-]{0,8}") {
        let text = include_str!("../../../../packaging/samples/agent/full.toml");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let line = line % lines.len();
        let cut = lines[line].floor_char_boundary(cut);
        lines[line].insert_str(cut, &junk);
        let _ = read(&lines.join("\n"));
    }
}

#[test]
fn a_service_needs_a_name_and_a_place_and_several_places_may_lead_to_one() {
    let settings = read(
        r#"
        [[service]]
        name = "orders"
        listen = "127.0.0.1:9001"
        [[service]]
        name = "orders"
        listen = "unix:/run/figspan-agent/orders.sock"
        mode = "0666"
        [[service]]
        name = "db"
        listen = "10.0.0.4:5432"
        protocol = "tcp"
        allow_remote = "the batch host has no agent yet"
        max_connections = 7
        connect_timeout = "2s"
        idle_timeout = "10m"
        "#,
    )
    .unwrap();
    let orders: ServiceName = "orders".parse().unwrap();
    let expected = Service::new(orders.clone(), Listen::Tcp(([127, 0, 0, 1], 9001).into()), Kind::Http);
    let socket = Listen::Unix("/run/figspan-agent/orders.sock".into());
    let db = Service {
        allow_remote: Some("the batch host has no agent yet".to_owned()),
        max_connections: 7,
        connect_timeout: Duration::from_secs(2),
        idle_timeout: Some(Duration::from_secs(600)),
        ..Service::new("db".parse().unwrap(), Listen::Tcp(([10, 0, 0, 4], 5432).into()), Kind::Tcp)
    };
    assert_eq!(settings.services, [expected, Service { mode: 0o666, ..Service::new(orders, socket, Kind::Http) }, db]);
}

#[test]
fn each_mistake_about_a_service_has_its_own_finding() {
    let service = |rest: &str| format!("[[service]]\nname = \"orders\"\n{rest}");
    for (rest, wanted) in [
        ("", "listen"),
        ("listen = \"9001\"", "neither ip:port nor unix:/path"),
        ("listen = \"unix:orders.sock\"", "does not begin with /"),
        ("listen = \"unix:/run/\"", "names no file"),
        ("listen = \"0.0.0.0:9001\"", "is no loopback address"),
        ("listen = \"[2001:db8::1]:9001\"", "allow_remote = \"the reason\""),
        ("listen = \"127.0.0.1:1\"\nprotocol = \"h2c\"", "http"),
        ("listen = \"unix:/run/x\"\nmode = \"rw\"", "is no mode of a socket"),
        ("listen = \"unix:/run/x\"\nmode = \"0440\"", "is no mode of a socket"),
        ("listen = \"127.0.0.1:1\"\nmax_connections = 0", "max_connections"),
        ("listen = \"127.0.0.1:1\"\nport = 7", "port"),
        ("listen = \"127.0.0.1:1\"\n[[service]]\nname = \"mail\"\nlisten = \"127.0.0.1:1\"", "is taken by another service"),
    ] {
        let found = read(&service(rest)).unwrap_err();
        assert!(found.contains(wanted), "{rest}: {found}");
    }
    let long = service(&format!("listen = \"unix:/{}\"", "x".repeat(103)));
    assert!(read(&long).unwrap_err().contains("more than 103 bytes"));
    let many: String = (1..=65).map(|port| service(&format!("listen = \"127.0.0.1:{port}\"\n"))).collect();
    assert!(read(&many).unwrap_err().contains("this is service number 65"));
}

#[test]
fn what_has_no_effect_on_a_service_is_a_warning() {
    let mut reader = Reader::default();
    reader.read("agent.toml", "[[service]]\nname = \"orders\"\nlisten = \"[::1]:9001\"\nmode = \"0660\"\nallow_remote = \"why\"");
    let warnings = reader.finish().unwrap().1;
    let told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert!(told.len() == 2 && told[0].contains("no permissions") && told[1].contains("only processes of this VM"), "{told:?}");
}
