//! What several measurements of one thing come to.

/// At least one measurement, in order of size.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// `None` for no measurement at all.
    pub fn new(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Self(values))
    }

    /// The middle one; between two middle ones, their mean.
    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 { self.0[middle] } else { f64::midpoint(self.0[middle - 1], self.0[middle]) }
    }

    pub fn least(&self) -> f64 {
        self.0[0]
    }

    pub fn most(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn the_middle_counts_and_outliers_only_widen_the_spread() {
        for (values, median, least, most) in [
            (vec![3.0], 3.0, 3.0, 3.0),
            (vec![9.0, 1.0, 2.0], 2.0, 1.0, 9.0),
            (vec![4.0, 1.0, 2.0, 1000.0], 3.0, 1.0, 1000.0),
        ] {
            let sample = Sample::new(values).unwrap();
            assert_eq!((sample.median(), sample.least(), sample.most()), (median, least, most));
        }
        assert_eq!(Sample::new(Vec::new()), None);
    }
}
