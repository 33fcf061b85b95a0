//! The live view: one screen, drawn from a [`Picture`]. Drawing is pure and tested on a terminal in memory.

use std::io;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use figspan_proto::control::plain;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Borders, Paragraph, Sparkline};
use ratatui::{DefaultTerminal, Frame};

use crate::observe::{Backend, Picture};

/// What stays the same while the view is open.
#[derive(Debug, Clone)]
pub(crate) struct Still {
    /// Where to send requests.
    pub(crate) address: String,
    /// Commands to try next.
    pub(crate) commands: Vec<String>,
}

/// The terminal, given back as it was when dropped (also by a panic: ratatui's hook sees to that).
pub(crate) struct Screen(DefaultTerminal);

impl Screen {
    pub(crate) fn open() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    pub(crate) fn draw(&mut self, picture: &Picture, still: &Still) -> io::Result<()> {
        self.0.draw(|frame| draw(frame, picture, still)).map(drop)
    }

    /// Whether somebody wants to leave: q, Escape or Ctrl-C. Does not wait.
    pub(crate) fn left(&self) -> io::Result<bool> {
        while event::poll(Duration::ZERO)? {
            let Event::Key(key) = event::read()? else { continue };
            let leave = match key.code {
                KeyCode::Char('q') | KeyCode::Esc => true,
                KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
                _ => false,
            };
            if leave && key.kind == KeyEventKind::Press {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// The colours of backends, in turn: told apart also by those who see no red or green.
const COLOURS: [Color; 6] = [Color::Blue, Color::Yellow, Color::Magenta, Color::Cyan, Color::LightBlue, Color::LightYellow];

fn draw(frame: &mut Frame<'_>, picture: &Picture, still: &Still) {
    let commands: Vec<Line<'_>> = still.commands.iter().flat_map(|command| fold(command, frame.area().width.into())).collect();
    let backends = 2 * picture.backends.len().clamp(1, 6) as u16 + 2;
    let agents = (picture.agents.len().clamp(1, 8) as u16) + 2;
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(backends),
        Constraint::Length(5),
        Constraint::Length(agents),
        Constraint::Min(3),
        Constraint::Length(commands.len() as u16 + 1),
    ])
    .split(frame.area());
    let headline = Line::from(vec![
        " figspan ".bold().reversed(),
        "  send requests to ".into(),
        still.address.clone().bold().fg(Color::Cyan),
        "   q ends".dim(),
    ]);
    frame.render_widget(headline, areas[0]);
    split(frame, areas[1], &picture.backends);
    traffic(frame, areas[2], picture);
    frame.render_widget(Paragraph::new(agent_lines(picture)).block(block("agents")), areas[3]);
    let events: Vec<Line<'_>> = picture.events.iter().rev().map(event_line).collect();
    frame.render_widget(Paragraph::new(events).block(block("last events")), areas[4]);
    // No borders at the sides: these lines are to be copied.
    frame.render_widget(Paragraph::new(commands).block(block("try, in another terminal").borders(Borders::TOP)), areas[5]);
}

/// A command on as many lines as it needs, so that a shell reads the lines as one.
fn fold(command: &str, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![String::new()];
    for word in command.split(' ') {
        let line = lines.last_mut().map(|line| line.as_str()).unwrap_or_default();
        // Room for a space, the word, and the mark at the end.
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() + 2 > width {
            if let Some(line) = lines.last_mut() {
                line.push_str(" \\");
            }
            lines.push(format!("  {word}"));
        } else if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.into_iter().map(|line| Line::from(line).fg(Color::Cyan)).collect()
}

fn block(title: &str) -> Block<'_> {
    Block::bordered().border_type(BorderType::Rounded).border_style(Style::new().dim()).title(Span::from(format!(" {title} ")).bold())
}

/// Two bars for each backend: the share wanted above the share observed.
fn split(frame: &mut Frame<'_>, area: Rect, backends: &[Backend]) {
    let inner = block("split: wanted above, observed below").inner(area);
    let width = usize::from(inner.width.saturating_sub(44)).max(10);
    let mut lines = Vec::new();
    for (backend, colour) in backends.iter().zip(COLOURS.iter().cycle()) {
        let bar = |share: f64, modifier| {
            let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
            vec![
                Span::styled("█".repeat(full), Style::new().fg(*colour).add_modifier(modifier)),
                Span::styled("·".repeat(width - full), Style::new().add_modifier(Modifier::DIM)),
            ]
        };
        let name = plain(&format!("{} {}", backend.kind, backend.name));
        let mut wanted = vec![Span::from(format!("{name:<20.20} ")).bold(), Span::from(format!("{:>6.1} % ", backend.wanted * 100.0))];
        wanted.extend(bar(backend.wanted, Modifier::DIM));
        wanted.push(Span::from(format!(" weight {}", backend.weight)));
        lines.push(Line::from(wanted));
        let observed = backend.observed.map_or_else(|| "     -   ".to_owned(), |share| format!("{:>6.1} % ", share * 100.0));
        let mut seen = vec![Span::from(format!("{:<20.20} ", format!("{} requests", backend.requests))).dim(), Span::from(observed)];
        seen.extend(bar(backend.observed.unwrap_or(0.0), Modifier::empty()));
        let (ready, all) = backend.ready;
        let ready = Span::from(format!(" {ready}/{all} ready"));
        seen.push(if backend.ready.0 == 0 { ready.fg(Color::Red) } else { ready.dim() });
        lines.push(Line::from(seen));
    }
    frame.render_widget(Paragraph::new(lines).block(block("split: wanted above, observed below")), area);
}

fn traffic(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let outer = block("traffic");
    let inner = outer.inner(area);
    frame.render_widget(outer, area);
    let areas = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).split(inner);
    let errors = format!("errors {:.1}/s ({} so far)", picture.errors, picture.errors_total);
    let line = Line::from(vec![
        format!("{:.0} requests/s", picture.rate).bold(),
        "   ".into(),
        if picture.errors > 0.0 { errors.fg(Color::Red) } else { errors.into() },
        format!("   p50 {}   p99 {}   in flight {}", latency(picture.p50), latency(picture.p99), picture.in_flight).into(),
    ]);
    frame.render_widget(line, areas[0]);
    let width = usize::from(areas[1].width);
    let curve = &picture.curve[picture.curve.len().saturating_sub(width)..];
    frame.render_widget(Sparkline::default().data(curve).style(Style::new().fg(Color::Cyan)), areas[1]);
}

fn agent_lines(picture: &Picture) -> Vec<Line<'static>> {
    let line = |agent: &figspan_proto::admin::Agent| {
        let (state, colour) = match agent {
            agent if agent.revoked => ("revoked", Color::Red),
            agent if !agent.connected => ("away", Color::Red),
            agent if agent.draining => ("draining", Color::Yellow),
            _ => ("connected", Color::Green),
        };
        let rtt = agent.tunnels.iter().map(|tunnel| tunnel.rtt_ms).reduce(f64::min).map_or_else(String::new, |rtt| format!("{rtt:.1} ms"));
        let mut spans = vec![
            Span::from(format!("{:<12.12} ", agent.name)).bold(),
            Span::from(format!("{state:<10}")).fg(colour),
            Span::from(format!("{} tunnels {rtt:<9}", agent.tunnels.len())),
        ];
        for uplink in &picture.uplinks {
            for endpoint in uplink.endpoints.iter().filter(|endpoint| endpoint.agent == agent.name) {
                let (word, colour) = if endpoint.accepts { ("ready", Color::Green) } else { ("not ready", Color::Yellow) };
                spans.push(Span::from(format!("  {} ", uplink.name)));
                spans.push(Span::from(if endpoint.weight.is_zero() { "draining" } else { word }).fg(colour));
                spans.push(Span::from(format!(" in flight {} ", endpoint.in_flight)).dim());
                if !endpoint.reason.is_empty() {
                    spans.push(Span::from(plain(&endpoint.reason)).dim());
                }
            }
        }
        Line::from(spans)
    };
    picture.agents.iter().map(line).collect()
}

fn event_line(event: &figspan_proto::admin::Event) -> Line<'static> {
    let time = event.at.split('T').nth(1).unwrap_or(&event.at).split(['.', 'Z']).next().unwrap_or_default().to_owned();
    let text = plain(&format!(" {:<10} {}  {}", event.kind, event.subject, event.message));
    Line::from(vec![Span::from(plain(&time)).dim(), text.into()])
}

/// A duration as short as it is useful.
pub(crate) fn latency(time: Option<Duration>) -> String {
    match time {
        None => "-".to_owned(),
        Some(time) if time < Duration::from_secs(1) => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
        Some(time) => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// The same as one line, for where there is no terminal.
pub(crate) fn line(picture: &Picture) -> String {
    let backend = |backend: &Backend| {
        let observed = backend.observed.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        format!("{} wanted {:.1} % observed {observed}", backend.name, backend.wanted * 100.0)
    };
    let split = picture.backends.iter().map(backend).collect::<Vec<_>>().join(", ");
    let connected = picture.agents.iter().filter(|agent| agent.connected).count();
    let line = format!(
        "{:.0} requests/s, errors {:.1}/s, p50 {}, p99 {}, in flight {}, agents {connected}/{}; {split}",
        picture.rate,
        picture.errors,
        latency(picture.p50),
        latency(picture.p99),
        picture.in_flight,
        picture.agents.len(),
    );
    plain(&line)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn picture() -> Picture {
        let backend = |kind: &str, name: &str, weight, wanted, observed| Backend {
            kind: kind.to_owned(),
            name: name.to_owned(),
            weight,
            wanted,
            observed: Some(observed),
            ready: (2, 2),
            requests: 1234,
        };
        Picture {
            backends: vec![backend("uplink", "monolith", 90, 0.9, 0.898), backend("service", "orders", 10, 0.1, 0.102)],
            rate: 100.0,
            p50: Some(Duration::from_micros(2300)),
            p99: Some(Duration::from_millis(7)),
            in_flight: 2,
            curve: vec![90, 100, 110],
            ..Picture::default()
        }
    }

    fn drawn(width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let still = Still { address: "http://127.0.0.1:4242/".to_owned(), commands: vec!["figspan-try ctl status".to_owned()] };
        terminal.draw(|frame| draw(frame, &picture(), &still)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn one_screen_shows_where_to_send_the_split_and_what_to_try() {
        let text = drawn(100, 30);
        for part in [
            "http://127.0.0.1:4242/",
            "uplink monolith",
            "90.0 %",
            "89.8 %",
            "weight 10",
            "100 requests/s",
            "p99 7.0 ms",
            "figspan-try ctl status",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_long_command_is_folded_so_that_a_shell_reads_it_as_one() {
        let command = "figspan-try ctl --hub /tmp/x/admin.sock drain uplink monolith --reason trying --wait";
        let lines: Vec<String> = fold(command, 40).iter().map(ToString::to_string).collect();
        assert!(lines.len() > 1 && lines.iter().all(|line| line.chars().count() <= 40), "{lines:?}");
        let read = lines.join("\n").replace(" \\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(read, command);
        assert_eq!(fold(command, 200).len(), 1);
    }

    #[test]
    fn a_terminal_of_any_size_is_drawn_on() {
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 90)] {
            assert!(!drawn(width, height).is_empty());
        }
    }

    #[test]
    fn without_a_terminal_the_same_is_one_line() {
        let wanted = "100 requests/s, errors 0.0/s, p50 2.3 ms, p99 7.0 ms, in flight 2, agents 0/0; \
                      monolith wanted 90.0 % observed 89.8 %, orders wanted 10.0 % observed 10.2 %";
        assert_eq!(line(&picture()), wanted);
    }
}
