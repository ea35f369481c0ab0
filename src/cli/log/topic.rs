//! The name of a topic, as a word: what cannot be one is said before any server is asked.

use crate::log::server::check_topic_name;

/// A name that a topic can have.
///
/// # Errors
/// Kafka does not take it.
pub fn parse_name(text: &str) -> Result<String, String> {
    check_topic_name(text).map(|()| text.to_owned())
}
