//! What processes have cost so far, read from /proc: a part of a chain is a program and all it has started.

use std::fs;

/// CPU seconds, resident MiB and open descriptors of a process and its descendants.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// User and system time since the start, in seconds.
    pub cpu: f64,
    /// Resident memory in MiB.
    pub rss: f64,
    /// Open file descriptors.
    pub descriptors: usize,
}

impl std::ops::Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, rss: self.rss + other.rss, descriptors: self.descriptors + other.descriptors }
    }
}

/// The cost of a process and of everything below it.
pub fn cost(root: u32) -> Cost {
    family(root).into_iter().map(own).fold(Cost::default(), |sum, one| sum + one)
}

/// Process ids of a process and its descendants.
pub fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id| Some((id, stat(id)?.get(1)?.parse().ok()?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        next += 1;
    }
    found
}

/// The fields of `/proc/ID/stat` behind the name: state, parent, ...
fn stat(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn own(id: u32) -> Cost {
    let ticks: f64 =
        stat(id).and_then(|fields| Some(fields.get(11..13)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum())).unwrap_or(0.0);
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    // USER_HZ is 100 on every Linux that figspan runs on.
    Cost {
        cpu: ticks / 100.0,
        rss: resident.unwrap_or(0.0) / 1024.0,
        descriptors: fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_its_children_are_one_family_with_a_cost() {
        let mut child = std::process::Command::new("sleep").arg("5").spawn().unwrap();
        let family = family(std::process::id());
        assert!(family.contains(&child.id()), "{family:?} lacks {}", child.id());
        let cost = cost(std::process::id());
        assert!(cost.rss > 0.5 && cost.descriptors >= 3, "{cost:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
