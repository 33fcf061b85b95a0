use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;

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
    let (handle, layer) = layers(&settings, sink).unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
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
    let (handle, layer) = layers(&LogSettings::default(), writer::Sink::text(Stuck(stuck))).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for n in 0..40_000 {
            tracing::info!(target: ACCESS, n, "request");
        }
    });
    assert!(handle.dropped() > 0);
    drop(release);
    handle.flush();
}

#[test]
fn formats_are_read_by_name() {
    assert_eq!("journald".parse::<Format>().unwrap(), Format::Journald);
    assert!("xml".parse::<Format>().unwrap_err().to_string().contains("auto, journald, text or json"));
}
