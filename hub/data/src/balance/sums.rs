//! Running sums of a few weights, on the stack where they are of usual number.

use super::pick::pick;

/// Weights that fit on the stack.
pub(super) const FEW: usize = 32;

/// Sums of the weights before each.
pub(super) struct Sums {
    few: [u64; FEW + 1],
    many: Vec<u64>,
    len: usize,
}

impl Sums {
    /// Sums of weights in their order.
    pub(super) fn of(weights: impl ExactSizeIterator<Item = u64>) -> Self {
        let len = weights.len();
        let mut sums = Self { few: [0; FEW + 1], many: if len > FEW { vec![0; len + 1] } else { Vec::new() }, len };
        let places = if len > FEW { &mut sums.many[..] } else { &mut sums.few[..] };
        let mut sum = 0;
        for (place, weight) in places[1..].iter_mut().zip(weights) {
            sum += weight;
            *place = sum;
        }
        sums
    }

    fn sums(&self) -> &[u64] {
        if self.len > FEW { &self.many } else { &self.few[..=self.len] }
    }

    /// The sum of all.
    pub(super) fn total(&self) -> u64 {
        self.sums()[self.len]
    }

    /// One weight.
    pub(super) fn weight(&self, at: usize) -> u64 {
        self.sums()[at + 1] - self.sums()[at]
    }

    /// Takes one weight out.
    pub(super) fn remove(&mut self, at: usize) {
        let weight = self.weight(at);
        let (few, len) = (self.len <= FEW, self.len);
        let sums = if few { &mut self.few[..=len] } else { &mut self.many[..] };
        sums[at + 1..].iter_mut().for_each(|sum| *sum -= weight);
    }

    /// Which one has number `n`; see [`pick`].
    pub(super) fn pick(&self, n: u64) -> Option<usize> {
        let sums = self.sums();
        pick(n, self.len, |to| sums[to])
    }
}
