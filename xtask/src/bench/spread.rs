//! The least, the middle and the most of several samples: no number goes onto the page without how far it spreads.

/// The least, the middle and the most of some numbers.
#[derive(PartialEq, Debug)]
pub(super) struct Spread {
    pub(super) least: f64,
    pub(super) median: f64,
    pub(super) most: f64,
}

impl Spread {
    /// Of an even number the middle lies between two. There has to be one at least.
    pub(super) fn of(numbers: impl Iterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = numbers.collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Spread { least: sorted[0], median, most: sorted[sorted.len() - 1] }
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_middle_of_an_even_number_lies_between() {
        let spread = Spread::of([4.0, 1.0, 2.0, 8.0].into_iter());
        assert_eq!(spread, Spread { least: 1.0, median: 3.0, most: 8.0 });
    }
}
