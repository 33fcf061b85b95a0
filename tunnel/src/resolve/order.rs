//! In which order to try addresses. Pure: randomness is an argument.

use std::net::SocketAddr;

/// One SRV record with the addresses of its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Lower ones are tried first.
    pub(super) priority: u16,
    /// Share among those of the same priority.
    pub(super) weight: u16,
    /// In the order to try.
    pub(super) addresses: Vec<SocketAddr>,
}

/// Alternates families, IPv6 first, each in its own order (RFC 8305, section 4): an address family without a route costs one
/// attempt and not all of them.
pub(super) fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut out = Vec::with_capacity(v6.len() + v4.len());
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] {
            return out;
        }
        out.extend(pair.into_iter().flatten());
    }
}

/// By priority, and within a priority drawn by weight (RFC 2782). `random` yields numbers in 0..1.
pub(super) fn order(mut targets: Vec<Target>, mut random: impl FnMut() -> f64) -> Vec<SocketAddr> {
    // Within a priority weight 0 comes first, which gives it the small chance that the RFC wants.
    targets.sort_by_key(|target| (target.priority, target.weight));
    let mut out = Vec::new();
    while let Some(first) = targets.first() {
        let equals = targets.iter().take_while(|target| target.priority == first.priority).count();
        let total: u32 = targets[..equals].iter().map(|target| u32::from(target.weight)).sum();
        let drawn = (random().clamp(0.0, 1.0) * f64::from(total)) as u32;
        let mut sum = 0;
        let reached = targets[..equals].iter().position(|target| {
            sum += u32::from(target.weight);
            sum >= drawn
        });
        out.extend(targets.remove(reached.unwrap_or(0)).addresses);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(priority: u16, weight: u16, port: u16) -> Target {
        Target { priority, weight, addresses: vec![([127, 0, 0, 1], port).into()] }
    }

    fn ports(addresses: &[SocketAddr]) -> Vec<u16> {
        addresses.iter().map(SocketAddr::port).collect()
    }

    #[test]
    fn families_alternate_and_keep_their_order() {
        let v4 = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let v6 = |port| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port));
        assert_eq!(interleave(vec![v4(1), v4(2), v4(3), v6(4), v6(5)]), [v6(4), v4(1), v6(5), v4(2), v4(3)]);
        assert_eq!(interleave(Vec::new()), []);
    }

    #[test]
    fn lower_priorities_come_first_whatever_is_drawn() {
        let targets = || vec![target(20, 9, 3), target(10, 0, 1), target(10, 65535, 2), target(30, 1, 4)];
        assert_eq!(ports(&order(targets(), || 0.0)), [1, 2, 3, 4]);
        assert_eq!(ports(&order(targets(), || 0.9)), [2, 1, 3, 4]);
    }

    #[test]
    fn weights_are_shares_of_the_first_place() {
        let mut number = 0;
        let mut firsts = [0u32; 2];
        for _ in 0..1000 {
            let order = order(vec![target(1, 30, 0), target(1, 10, 1)], || {
                number = (number + 617) % 1000;
                f64::from(number) / 1000.0
            });
            firsts[usize::from(order[0].port())] += 1;
        }
        assert!((700..=800).contains(&firsts[0]), "{firsts:?}");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_priorities_hold(
            records in proptest::collection::vec((0u16..4, any::<u16>()), 0..20),
            randoms in proptest::collection::vec(any::<f64>(), 20),
        ) {
            let targets: Vec<_> = records.iter().enumerate().map(|(n, (p, w))| target(*p, *w, n as u16)).collect();
            let mut randoms = randoms.into_iter().cycle();
            let ordered = ports(&order(targets, || randoms.next().unwrap_or(0.5)));
            let priorities: Vec<_> = ordered.iter().map(|port| records[usize::from(*port)].0).collect();
            prop_assert!(priorities.is_sorted());
            let mut all = ordered.clone();
            all.sort_unstable();
            prop_assert_eq!(all, (0..records.len() as u16).collect::<Vec<_>>());
        }
    }
}
