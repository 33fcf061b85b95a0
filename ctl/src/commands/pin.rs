//! `figspanctl pin`: a header for testers. The key is read here and goes nowhere.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use figspan_tunnel::pin::{MIN_KEY, PinKey};

use super::read;
use crate::args::Pin;
use crate::error::{CtlError, Exit};
use crate::terminal::Terminal;

/// Longest that a pin may hold: keys change more often than that, and a lost pin must not be a door for ever.
const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Prints `x-figspan-pin: ...`, as `curl -H` takes it.
pub(super) fn print(wanted: &Pin, terminal: &mut Terminal) -> Result<Exit, CtlError> {
    if wanted.ttl.is_zero() || wanted.ttl > MAX_TTL {
        return Err(CtlError::Usage("--ttl: use more than 0s and at most 30d".to_owned()));
    }
    let key = PinKey::read(read(&wanted.key_file)?.as_bytes()).ok_or_else(|| {
        let file = wanted.key_file.display();
        CtlError::Usage(format!("{file} holds less than {MIN_KEY} bytes; make a key with `openssl rand -hex 32`, for the hub and for here"))
    })?;
    let target = match (&wanted.uplink, &wanted.service) {
        (Some(uplink), _) => format!("uplink/{}", uplink.as_str()),
        (None, Some(service)) => format!("service/{}", service.as_str()),
        (None, None) => return Err(CtlError::Usage("name the backend: --uplink or --service".to_owned())),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    terminal.raw(&format!("x-figspan-pin: {}\n", key.sign(&target, (now + wanted.ttl).as_secs())))?;
    Ok(Exit::Done)
}
