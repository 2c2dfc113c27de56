//! What a node tells the others about itself.

use std::collections::BTreeMap;

use serde::Serialize;

/// Texts about a node, each with a key: an address for HTTP, a version, a zone. All members know
/// those of all members.
///
/// ```
/// use quorate_membership::Metadata;
///
/// let metadata = Metadata::new().with("http", "10.0.0.1:8080")?.with("zone", "b")?;
/// assert_eq!(metadata.get("http"), Some("10.0.0.1:8080"));
/// # Ok::<(), quorate_membership::MetadataError>(())
/// ```
///
/// Serialised as a map.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, String>);

/// Why a text cannot be added to a node's metadata.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The key is empty, too long, or has other characters than printable ones of ASCII.
    #[error("the key {0:?} of the metadata does not have 1 to {max} printable ASCII characters", max = Metadata::MAX_KEY)]
    Key(String),
    /// The value has control characters.
    #[error("the value of {0:?} in the metadata has control characters")]
    Value(String),
    /// All keys and values together are too long.
    #[error("the metadata is {length} bytes long with {key:?}, and at most {max} are allowed", max = Metadata::MAX)]
    TooLong {
        /// The key.
        key: String,
        /// The length of all keys and values, in bytes.
        length: usize,
    },
}

impl Metadata {
    /// The greatest length of all keys and values together, in bytes.
    pub const MAX: usize = 1024;
    /// The greatest length of a key, in bytes.
    pub const MAX_KEY: usize = 64;

    /// Returns no metadata.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns this, with the value of a key added or replaced.
    ///
    /// # Errors
    /// If the key or the value cannot be shown, or the whole becomes too long.
    pub fn with(mut self, key: &str, value: &str) -> Result<Self, MetadataError> {
        let can_be_key =
            (1..=Self::MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        if !can_be_key {
            return Err(MetadataError::Key(key.to_owned()));
        }
        if value.chars().any(char::is_control) {
            return Err(MetadataError::Value(key.to_owned()));
        }
        self.0.insert(key.to_owned(), value.to_owned());
        let length: usize = self.iter().map(|(key, value)| key.len() + value.len()).sum();
        if length > Self::MAX {
            return Err(MetadataError::TooLong { key: key.to_owned(), length });
        }
        Ok(self)
    }

    /// Returns this without a key.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.0.remove(key);
        self
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Returns all keys with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns `true` if there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_that_cannot_be_shown_or_is_too_long_is_refused() {
        let metadata = Metadata::new().with("zone", "a").unwrap().with("zone", "b").unwrap();
        assert_eq!(metadata.iter().collect::<Vec<_>>(), [("zone", "b")]);
        assert!(metadata.clone().without("zone").is_empty());
        let refused = |key: &str, value: &str| metadata.clone().with(key, value).unwrap_err();
        assert_eq!(refused("", "x"), MetadataError::Key(String::new()));
        assert_eq!(refused("a b", "x"), MetadataError::Key("a b".to_owned()));
        assert!(matches!(refused(&"k".repeat(65), "x"), MetadataError::Key(_)));
        assert_eq!(refused("http", "\n"), MetadataError::Value("http".to_owned()));
        let longest = "x".repeat(Metadata::MAX - "zoneb".len() - "http".len());
        assert!(metadata.clone().with("http", &longest).is_ok());
        let error = refused("http", &(longest + "x"));
        assert_eq!(
            error.to_string(),
            "the metadata is 1025 bytes long with \"http\", and at most 1024 are allowed"
        );
    }
}
