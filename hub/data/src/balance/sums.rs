//! Running sums of a few weights, on the stack where they are of usual number.

use smallvec::SmallVec;

use super::pick::pick;

/// Weights that fit on the stack.
pub(super) const FEW: usize = 32;

/// Sums of the weights up to each, that one included.
pub(super) struct Sums(SmallVec<[u64; FEW]>);

impl Sums {
    /// Sums of weights in their order.
    pub(super) fn of(weights: impl Iterator<Item = u64>) -> Self {
        Self(
            weights
                .scan(0, |sum, weight| {
                    *sum += weight;
                    Some(*sum)
                })
                .collect(),
        )
    }

    /// The sum of the weights before one.
    fn before(&self, at: usize) -> u64 {
        at.checked_sub(1).map_or(0, |last| self.0[last])
    }

    /// The sum of all.
    pub(super) fn total(&self) -> u64 {
        self.before(self.0.len())
    }

    /// One weight.
    pub(super) fn weight(&self, at: usize) -> u64 {
        self.0[at] - self.before(at)
    }

    /// Takes one weight out.
    pub(super) fn remove(&mut self, at: usize) {
        let weight = self.weight(at);
        self.0[at..].iter_mut().for_each(|sum| *sum -= weight);
    }

    /// Which one has number `n`; see [`pick`].
    pub(super) fn pick(&self, n: u64) -> Option<usize> {
        pick(n, self.0.len(), |to| self.before(to))
    }
}
