use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing::Level;
use tracing::level_filters::LevelFilter;

use super::*;

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs `act` with a log of its own and returns what was written.
fn written(settings: LogSettings, act: impl FnOnce(&LogHandle)) -> String {
    let output = Output::default();
    let sink = match settings.format {
        Format::Json => writer::Sink::json(output.clone()),
        _ => writer::Sink::text(output.clone()),
    };
    let (handle, subscriber) = subscriber(&settings, sink).unwrap();
    tracing::subscriber::with_default(subscriber, || act(&handle));
    handle.flush();
    String::from_utf8(output.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn text_keeps_fields_and_quotes_what_could_be_misread() {
    let log = written(LogSettings::default(), |_| {
        tracing::info!(listener = "web", address = %"0.0.0.0:80", tries = 3, why = "a b=\"c\"", "listening");
    });
    assert!(
        log.ends_with("  INFO figspan_telemetry::tests listening listener=web address=0.0.0.0:80 tries=3 why=\"a b=\\\"c\\\"\"\n"),
        "{log}"
    );
}

#[test]
fn an_event_without_a_message_leaves_no_gap() {
    let log = written(LogSettings::default(), |_| tracing::info!(target: ACCESS, status = 200));
    assert!(log.ends_with("  INFO figspan::access status=200\n"), "{log}");
}

#[test]
fn nothing_from_the_network_ends_a_line_or_steers_a_terminal() {
    let evil = "x\n2026 ERROR forged\u{1b}[2J\r\u{9b}31m\u{202e}";
    for format in [Format::Text, Format::Json] {
        let log = written(LogSettings { format, ..LogSettings::default() }, |_| {
            tracing::warn!(path = evil, host = %evil, debug = ?evil, "refused {evil}");
        });
        assert_eq!(log.matches('\n').count(), 1, "{log:?}");
        assert!(log.trim_end_matches('\n').chars().all(|c| !c.is_control() && c != '\u{202e}'), "{log:?}");
    }
}

#[test]
fn json_is_one_object_per_line_with_typed_fields() {
    let log = written(LogSettings { format: Format::Json, ..LogSettings::default() }, |_| {
        tracing::info_span!("request", uplink = "monolith").in_scope(|| tracing::info!(status = 200, time = "forged", "done"));
    });
    let object: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert_eq!(object["message"], "done");
    assert_eq!(object["status"], 200);
    assert_eq!(object["uplink"], "monolith");
    assert_ne!(object["time"], "forged");
}

#[test]
fn what_a_span_is_told_later_replaces_what_it_said() {
    for format in [Format::Text, Format::Json] {
        let log = written(LogSettings { format, ..LogSettings::default() }, |_| {
            let span = tracing::info_span!("s", agent = "vm-1", tries = 1, path = tracing::field::Empty);
            span.record("tries", 2);
            span.record("path", "/a b");
            span.in_scope(|| tracing::info!(agent = "vm-2", "done"));
        });
        let fields = match format {
            Format::Json => r#""message":"done","agent":"vm-2","path":"/a b","tries":2}"#,
            _ => r#"done agent=vm-2 path="/a b" tries=2"#,
        };
        assert!(log.ends_with(&format!("{fields}\n")), "{log}");
    }
}

#[test]
fn json_holds_every_text_and_number_as_it_was() {
    let texts = ["", "a b", "a\"b\\c", "/ä?ö=ü", "x=1"];
    let log = written(LogSettings { format: Format::Json, ..LogSettings::default() }, |_| {
        for text in texts {
            tracing::info!(target: ACCESS, text, most = u64::MAX, least = i64::MIN, ratio = 0.5, none = f64::NAN, yes = true);
        }
    });
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["text"].as_str().unwrap()).collect::<Vec<_>>(), texts);
    let line = &lines[0];
    assert_eq!((&line["most"], &line["least"], &line["ratio"]), (&u64::MAX.into(), &i64::MIN.into(), &0.5.into()));
    assert_eq!((&line["none"], &line["yes"]), (&serde_json::Value::Null, &true.into()));
}

#[test]
fn the_access_log_can_be_off_and_then_is_not_even_enabled() {
    let off = LogSettings { access: false, level: "trace".into(), ..LogSettings::default() };
    let log = written(off, |handle| {
        assert!(!tracing::enabled!(target: ACCESS, Level::INFO));
        tracing::info!(target: ACCESS, "GET /");
        handle.set_access(true).unwrap();
        tracing::info!(target: ACCESS, "GET /again");
    });
    assert!(!log.contains("GET / ") && !log.contains("GET /\n"), "{log}");
    assert!(log.contains("GET /again"), "{log}");
}

#[test]
fn the_level_changes_at_run_time_and_a_bad_one_changes_nothing() {
    let log = written(LogSettings::default(), |handle| {
        tracing::debug!("first");
        handle.set_level("debug").unwrap();
        tracing::debug!("second");
        let error = handle.set_level("shout=loud").unwrap_err().to_string();
        assert!(error.contains("shout=loud"), "{error}");
        tracing::debug!("third");
        handle.set_level("warn").unwrap();
        tracing::info!("fourth");
        tracing::info!(target: ACCESS, "fifth");
    });
    assert!(!log.contains("first") && !log.contains("fourth"), "{log}");
    assert!(log.contains("second") && log.contains("third") && log.contains("fifth"), "{log}");
}

#[test]
fn a_reader_that_does_not_read_never_blocks_whoever_logs() {
    struct Stuck(std::sync::mpsc::Receiver<()>);
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (release, stuck) = std::sync::mpsc::channel();
    let (handle, subscriber) = subscriber(&LogSettings::default(), writer::Sink::text(Stuck(stuck))).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        for n in 0..40_000 {
            tracing::info!(target: ACCESS, n, "request");
        }
    });
    assert!(handle.dropped() > 0);
    drop(release);
    handle.flush();
}

#[test]
fn what_the_level_leaves_out_costs_no_more_than_a_comparison() {
    let (handle, subscriber) = subscriber(&LogSettings::default(), writer::Sink::text(Output::default())).unwrap();
    assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::INFO));
    handle.set_level("debug").unwrap();
    assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::DEBUG));
}

#[test]
fn formats_are_read_by_name() {
    assert_eq!("journald".parse::<Format>().unwrap(), Format::Journald);
    assert!("xml".parse::<Format>().unwrap_err().to_string().contains("auto, journald, text or json"));
}

#[test]
fn a_raised_level_ends_by_itself_or_when_told_and_a_reload_does_not_end_it() {
    let output = Output::default();
    let (handle, subscriber) = subscriber(&LogSettings::default(), writer::Sink::text(output.clone())).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let minute = Duration::from_secs(60);
        let levels = handle.raise("debug", Some("figspan_telemetry"), minute).unwrap();
        assert_eq!((levels.configured.as_str(), levels.raised.unwrap().level.as_str()), ("info", "debug"));
        tracing::debug!("of the target");
        tracing::debug!(target: "elsewhere", "of another");
        handle.set("warn", true).unwrap();
        tracing::debug!("after a reload");
        assert_eq!(handle.lower(), Levels { configured: "warn".into(), raised: None });
        tracing::info!("as configured");
        assert!(tracing::enabled!(target: ACCESS, Level::INFO));

        handle.raise("trace", None, Duration::from_millis(50)).unwrap();
        tracing::trace!("everywhere");
        let start = std::time::Instant::now();
        while handle.levels().raised.is_some() {
            assert!(start.elapsed() < Duration::from_secs(10), "it ends");
            std::thread::yield_now();
        }
        tracing::info!("over");
        handle.raise("debug", None, minute).unwrap();
        handle.raise("error", None, minute).unwrap();
        tracing::warn!("the newest counts");
        handle.lower();
        tracing::warn!("last");
    });
    handle.flush();
    let log = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
    for said in ["of the target", "after a reload", "everywhere", "last"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    for silent in ["of another", "as configured", "over", "the newest"] {
        assert!(!log.contains(silent), "{silent}: {log}");
    }
}

#[test]
fn what_cannot_be_raised_changes_nothing_and_says_why() {
    let (handle, _subscriber) = subscriber(&LogSettings::default(), writer::Sink::text(Output::default())).unwrap();
    let minute = Duration::from_secs(60);
    for (level, target, time, why) in [
        ("shout=loud", None, minute, "cannot be read"),
        ("debug,a=info", Some("figspan_tunnel"), minute, "cannot be read"),
        ("debug", Some("a=trace,b"), minute, "no module path"),
        ("debug", Some(""), minute, "no module path"),
        ("debug", None, Duration::ZERO, "1 s to 24 h"),
        ("debug", None, MAX_RAISED * 2, "1 s to 24 h"),
        (&"a=info,".repeat(1000), None, minute, "too long"),
    ] {
        let error = handle.raise(level, target, time).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(handle.levels(), Levels { configured: "info".into(), raised: None });
    }
}

#[test]
fn a_repeated_event_is_told_with_its_number_when_the_log_is_flushed() {
    let log = written(LogSettings::default(), |_| {
        for n in 0..1244 {
            tracing::warn!(agent = "vm-1", n, "a tunnel is refused");
        }
    });
    assert_eq!(log.lines().count(), 11, "{log}");
    assert!(log.trim_end().ends_with("repeated=1234") && log.contains("repeated 1,234 times: a tunnel is refused"), "{log}");
}
