//! Open-ended: everything stays up, load goes on, the view follows, until somebody ends it.

use std::io::IsTerminal;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use figspan_ctl::{Client, Proof};
use figspan_ledger::{Load, Mix, Target};
use http::HeaderValue;
use tokio::time::Instant;

use crate::bridge::Bridge;
use crate::observe::Observer;
use crate::tell;
use crate::view::{self, Screen, Still};

/// Between two looks at the hub.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two looks at the keyboard.
const KEYS_EVERY: Duration = Duration::from_millis(100);

/// Runs until `ended`, or as long as the plan says.
pub(crate) async fn run(bridge: &Bridge, mut ended: Pin<&mut impl Future<Output = ()>>) -> anyhow::Result<()> {
    let plan = &bridge.plan;
    let still = Still { address: format!("http://{}/", bridge.listen), commands: commands(bridge) };
    tell::answer(&format!("Send requests to {}", still.address));
    if plan.rate > 0 {
        tell::answer(&format!("{} requests/s of our own go there too (--rate 0: none).", plan.rate));
    }
    tell::answer("Try, in another terminal:");
    still.commands.iter().for_each(|command| tell::answer(&format!("  {command}")));

    let _load = if plan.rate > 0 {
        let host = HeaderValue::try_from(bridge.listen.to_string())?;
        let own = plan.own.then_some(Mix::Orders);
        let target = Target { address: bridge.listen, host, path: plan.path.clone(), rate: plan.rate, own, keep: false, most: None };
        Some(Load::start(target)?)
    } else {
        None
    };
    let client = Client::new(figspan_ctl::Target::Unix(bridge.socket.clone()), "figspan-try", &Proof::default())?;
    let mut observer = Observer::new(client, bridge.hub.metrics());
    let mut screen = if std::io::stdout().is_terminal() && !plan.no_tui { Some(Screen::open()?) } else { None };
    let deadline = plan.duration.map(|duration| Instant::now() + duration);
    let mut next_look = Instant::now();
    loop {
        if Instant::now() >= next_look {
            next_look += LOOK_EVERY;
            let picture = observer.look().await?;
            match &mut screen {
                Some(screen) => screen.draw(&picture, &still)?,
                None => tell::answer(&view::line(&picture)),
            }
        }
        if let Some(screen) = &screen
            && screen.left()?
        {
            return Ok(());
        }
        let pause = if screen.is_some() { KEYS_EVERY } else { LOOK_EVERY };
        let wake = (Instant::now() + pause).min(next_look).min(deadline.unwrap_or(next_look));
        tokio::select! {
            () = ended.as_mut() => return Ok(()),
            () = tokio::time::sleep_until(wake) => {}
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(());
        }
    }
}

/// What to type next, ready to paste: this very program, this very hub.
fn commands(bridge: &Bridge) -> Vec<String> {
    let program = std::env::current_exe().unwrap_or_else(|_| "figspan-try".into());
    let here = std::env::current_dir().unwrap_or_default();
    let program = program.strip_prefix(&here).unwrap_or(&program);
    let ctl = format!("{} ctl --hub {}", quoted(program), quoted(&bridge.socket));
    let mut commands = vec![format!("curl -i http://{}{}", bridge.listen, bridge.plan.path)];
    if let Some((uplink, _)) = bridge.plan.uplinks.first() {
        let weight = if bridge.plan.own { 10 } else { 25 };
        commands.push(format!("{ctl} uplink weight {uplink} {weight} --reason trying --wait"));
        commands.push(format!("{ctl} drain uplink {uplink} --reason trying --wait"));
        commands.push(format!("{ctl} undrain uplink {uplink} --reason trying --wait"));
    }
    commands.push(format!("{ctl} explain GET http://{}{}", bridge.listen, bridge.plan.path));
    commands
}

/// As a shell reads it back.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+:=@,".contains(&b));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_only_where_a_shell_would_misread_it() {
        assert_eq!(quoted(Path::new("target/release/figspan-try")), "target/release/figspan-try");
        assert_eq!(quoted(Path::new("/tmp/it's here")), r"'/tmp/it'\''s here'");
    }
}
