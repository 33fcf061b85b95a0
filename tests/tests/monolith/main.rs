//! The walk-through of docs/05-tomcat.md, with the real binaries: Debian's Tomcat on two "VMs" behind two agents, a service written
//! in another language as the extracted part, real clients, and traffic shifted 100/0, 90/10, 0/100 under load.
//!
//! Nothing may fail, sessions stay where they are, and `drained` must be true by Tomcat's own access log.
//! A tier of its own (`just monolith`): it fails where something is missing.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::print_stdout, reason = "modules of a test binary, split for reading")]

mod parts;

use std::time::Duration;

use parts::{Clients, Figspan, Load, Orders, Tomcat};

const HELLO: &str = "/examples/servlets/servlet/HelloWorldExample";
const SESSION: &str = "/examples/servlets/servlet/SessionExample";

#[test]
fn a_real_monolith_is_shifted_away_without_a_failed_request() {
    let tomcats = [Tomcat::start("vm-1"), Tomcat::start("vm-2")];
    let orders = Orders::start();
    let figspan = Figspan::start(&tomcats, &orders);
    let web = figspan.web();
    let clients = Clients::new(&web);

    // Before anything moves: sessions, a WebSocket on each VM's Tomcat, gRPC to the extracted part.
    let sessions: Vec<_> = (0..20).map(|number| clients.open_session(SESSION, &format!("item-{number}"))).collect();
    assert!(
        sessions.iter().any(|session| session.ends_with(".vm-1")) && sessions.iter().any(|session| session.ends_with(".vm-2")),
        "{sessions:?}"
    );
    let sockets = [clients.websocket(), clients.websocket()];
    clients.grpc();
    clients.async_and_chunked_answers();

    let load = Load::start(&web, HELLO, "/examples/servlets/nonblocking/bytecounter", 200);
    load.run_for(Duration::from_secs(3));
    let share = load.take_share();
    println!("100/0: {share}");
    assert_eq!(share.orders, 0, "nothing goes to the extracted part yet: {share}");

    figspan.set_split(90, 10);
    load.run_for(Duration::from_millis(500));
    load.take_share();
    load.run_for(Duration::from_secs(5));
    let share = load.take_share();
    println!("90/10: {share}");
    let wanted = share.total() / 10;
    assert!(share.orders.abs_diff(wanted) <= 2, "a tenth of {} is {wanted}: {share}", share.total());
    clients.sessions_are_kept(SESSION, &sessions);
    clients.burst(HELLO, 2_000);

    figspan.set_split(0, 100);
    load.run_for(Duration::from_millis(500));
    load.take_share();
    load.run_for(Duration::from_secs(3));
    let share = load.take_share();
    println!("0/100: {share}");
    assert_eq!(share.monolith, 0, "nothing new goes to the monolith: {share}");
    clients.sessions_are_kept(SESSION, &sessions);

    // Sessions and sockets still hold the monolith: it is not drained, and figspan says so.
    let verdict = figspan.drain_all(Duration::from_secs(2));
    assert!(!verdict, "two WebSockets are open: the monolith is not drained");
    for socket in sockets {
        let echoed = socket.close();
        assert!(echoed > 50, "the WebSocket echoed only {echoed} messages over the whole shift");
    }
    assert!(figspan.drain_all(Duration::from_secs(20)), "the monolith is drained once its last client has left");

    // The proof is the monolith's own: its access log stands still while load goes on.
    let lines: Vec<_> = tomcats.iter().map(Tomcat::access_log_lines).collect();
    load.run_for(Duration::from_secs(3));
    assert_eq!(tomcats.iter().map(Tomcat::access_log_lines).collect::<Vec<_>>(), lines, "a drained monolith gets no request");

    let report = load.stop();
    println!("{report}");
    assert_eq!(report.failed, 0, "{report}");
    assert!(report.sent > 3_000, "{report}");
    // Every POST that the monolith answered is in its log once: none was lost, none came twice.
    let posts: usize = tomcats.iter().map(|tomcat| tomcat.access_log_count("POST")).sum();
    assert_eq!(posts, report.posts_to_monolith, "{report}");
    figspan.stop();
}
