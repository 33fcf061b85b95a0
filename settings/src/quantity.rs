//! Durations and sizes as texts.

use std::time::Duration;

/// Longest duration that a setting may have; a timer further away means a slip of the pen.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads a duration such as `5s`, `1m 30s` or `250ms`. Errors say why it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text.trim()).map_err(|error| format!("`{text}` is not a duration ({error})"))?;
    if duration > MAX_DURATION { Err(format!("`{text}` is longer than a year")) } else { Ok(duration) }
}

/// Reads a number of bytes such as `64KiB`, `1 MiB`, `10MB` or `512`. Errors say why it is none.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is not a size"))?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "kib" | "ki" => 1 << 10,
        "m" | "mb" => 1000 * 1000,
        "mib" | "mi" => 1 << 20,
        "g" | "gb" => 1000 * 1000 * 1000,
        "gib" | "gi" => 1 << 30,
        other => return Err(format!("`{text}` is not a size (unit `{other}`)")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_and_sizes_read_as_people_write_them() {
        assert_eq!(duration("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("1m 30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(duration("0s").unwrap(), Duration::ZERO);
        assert!(duration("5").is_err() && duration("").is_err() && duration("400days").is_err() && duration("-1s").is_err());
        assert_eq!(size("64KiB").unwrap(), 65_536);
        assert_eq!(size("1 MiB").unwrap(), 1_048_576);
        assert_eq!(size("512").unwrap(), 512);
        assert_eq!(size("10MB").unwrap(), 10_000_000);
        assert!(size("KiB").is_err() && size("1.5MiB").is_err() && size("99999999999GiB").is_err() && size("3 apples").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in ".{0,40}", number: u64, unit in "[a-zA-Z]{0,8}") {
            let _ = (duration(&text), size(&text), duration(&format!("{number}{unit}")), size(&format!("{number}{unit}")));
        }
    }
}
