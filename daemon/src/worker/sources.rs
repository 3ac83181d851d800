//! Which sources a session may claim: names, or prefixes that end in `*`.

/// The patterns of one session, fixed when it begins.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    exact: Vec<Vec<u8>>,
    prefixes: Vec<Vec<u8>>,
}

impl Sources {
    /// A `*` anywhere but at the end stands for itself.
    #[must_use]
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Self {
        let mut sources = Self::default();
        for pattern in patterns {
            match pattern.as_ref() {
                [prefix @ .., b'*'] => sources.prefixes.push(prefix.to_vec()),
                exact => sources.exact.push(exact.to_vec()),
            }
        }
        sources
    }

    #[must_use]
    pub fn allow(&self, source: &[u8]) -> bool {
        self.prefixes.iter().any(|prefix| source.starts_with(prefix))
            || self.exact.iter().any(|exact| exact == source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_prefixes_allow() {
        let sources = Sources::new(["checkout", "sensor/*", "a*b"]);
        for allowed in ["checkout", "sensor/", "sensor/1/2", "a*b"] {
            assert!(sources.allow(allowed.as_bytes()), "{allowed}");
        }
        for refused in ["", "checkouts", "sensor", "xsensor/1", "axb"] {
            assert!(!sources.allow(refused.as_bytes()), "{refused}");
        }
        assert!(Sources::new(["*"]).allow(b"anything"));
        assert!(!Sources::default().allow(b"anything"));
    }
}
