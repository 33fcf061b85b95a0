//! Another configuration while the hub runs.

use std::time::Duration;

use crate::agent::TestAgent;
use crate::client::{Connection, admin, get};
use crate::{TestHub, WEB, eventually};

const SECOND: &str = r#"
[[listener]]
name = "second"
address = "127.0.0.1:0"
protocol = "HTTP"
[[http_route]]
name = "also"
listeners = ["second"]
[[http_route.rules]]
backend_refs = [{ uplink = "monolith" }]
"#;

#[tokio::test]
async fn a_reload_keeps_sockets_connections_and_counters() {
    let hub = TestHub::start(WEB);
    let web = hub.running.listener("web").unwrap();
    let _agent = TestAgent::join(&hub.running, "vm-1", "hello").await;
    eventually("the uplink is routable", || async { get(web, "/").await.0 == 200 }).await;
    let mut kept = Connection::tcp(web).await;
    assert_eq!(kept.get("/").await.unwrap().0, 200);
    let picked = || async { admin(hub.running.admin_socket(), "GET", "/v1/uplinks/monolith", None).await.1["picked"].as_u64().unwrap() };
    let before = picked().await;

    hub.rewrite(&format!("{WEB}{SECOND}"));
    let config = hub.running.reload("test").await.unwrap();
    assert!(config.errors.is_empty(), "{:?}", config.errors);
    let second = hub.running.listener("second").unwrap();
    assert_eq!(hub.running.listener("web"), Some(web), "the old listener keeps its socket");
    assert_eq!(kept.get("/").await.unwrap().0, 200, "the connection goes on");
    assert_eq!(get(second, "/").await.0, 200, "the new listener serves from its first connection on");
    assert_eq!(picked().await, before + 2);

    hub.rewrite(WEB);
    hub.running.reload("test").await.unwrap();
    assert_eq!(hub.running.listener("second"), None);
    eventually("the removed listener stops accepting", || async { tokio::net::TcpStream::connect(second).await.is_err() }).await;
    assert_eq!(kept.get("/").await.unwrap().0, 200);
}

#[tokio::test]
async fn a_bad_file_leaves_the_last_good_one_in_force_and_says_so() {
    let hub = TestHub::start(WEB);
    let (web, metrics) = (hub.running.listener("web").unwrap(), hub.running.metrics_address().unwrap());
    let _agent = TestAgent::join(&hub.running, "vm-1", "hello").await;
    eventually("the uplink is routable", || async { get(web, "/").await.0 == 200 }).await;
    hub.rewrite("[[listener]]\nname = \"web\"\nadress = \"127.0.0.1:0\"\n");
    // No reload is asked for: the file is watched.
    eventually("the mistake is told", || async { !hub.running.config().errors.is_empty() }).await;
    let errors = hub.running.config().errors.clone();
    assert!(errors.iter().any(|error| error.contains("hub.toml:") && error.contains("address")), "{errors:?}");
    assert_eq!(get(web, "/").await.0, 200);
    assert!(get(metrics, "/metrics").await.1.contains("figspan_config_last_reload_successful 0\n"));
    let (_, events) = admin(hub.running.admin_socket(), "GET", "/v1/events", None).await;
    assert!(
        events.as_array().unwrap().iter().any(|e| e["kind"] == "config" && e["message"].as_str().unwrap().contains("refused")),
        "{events}"
    );
    hub.rewrite(&format!("{WEB}{SECOND}"));
    // Its listener is there a moment before the reload is over and said to have gone well.
    let in_force = || hub.running.listener("second").is_some() && hub.running.config().errors.is_empty();
    eventually("the mended file is in force", || async { in_force() }).await;
    assert!(get(metrics, "/metrics").await.1.contains("figspan_config_last_reload_successful 1\n"));
}

#[tokio::test]
async fn an_address_that_cannot_be_bound_refuses_the_whole_reload() {
    let hub = TestHub::start(WEB);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    hub.rewrite(&format!("{WEB}{}", SECOND.replace("127.0.0.1:0", &address)));
    let config = hub.running.reload("test").await.unwrap();
    assert!(config.errors[0].contains("second") && config.errors[0].contains(&address), "{:?}", config.errors);
    assert_eq!(hub.running.listeners().len(), 1);
}

#[tokio::test]
async fn a_file_in_the_making_closes_nothing() {
    let hub = TestHub::start(WEB);
    std::fs::write(hub.file(), "\n").unwrap();
    let config = hub.running.reload("test").await.unwrap();
    assert!(config.errors[0].contains("is empty"), "{:?}", config.errors);
    assert_eq!(hub.running.listeners().len(), 1);
}

#[tokio::test]
async fn settings_that_need_a_restart_are_warned_about() {
    let hub = TestHub::start(WEB);
    let text = std::fs::read_to_string(hub.file()).unwrap().replace("shards = 2", "shards = 3");
    let config = hub.running.reload_text(&text, "test").await.unwrap();
    assert!(config.warnings.iter().any(|warning| warning.contains("[hub]") && warning.contains("restart")), "{:?}", config.warnings);
}

#[tokio::test]
async fn ten_reloads_a_second_lose_no_request() {
    let hub = TestHub::start(WEB);
    let web = hub.running.listener("web").unwrap();
    let _agent = TestAgent::join(&hub.running, "vm-1", "hello").await;
    eventually("the uplink is routable", || async { get(web, "/").await.0 == 200 }).await;
    let reloads = async {
        for round in 0..10 {
            hub.rewrite(&if round % 2 == 0 { format!("{WEB}{SECOND}") } else { WEB.to_owned() });
            hub.running.reload("test").await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut connection = Connection::tcp(web).await;
    let requests = async {
        loop {
            assert_eq!(connection.get("/").await.unwrap().0, 200);
            assert_eq!(get(web, "/").await.0, 200);
        }
    };
    tokio::select! {
        () = reloads => {}
        () = requests => {}
    }
}
