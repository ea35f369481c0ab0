//! What can be configured of a topic: Kafka's names, what they may be, and what they are by default.

use std::collections::BTreeMap;
use std::fmt;

use super::defaults::Defaults;
use crate::log::wire::Compression;
use crate::log::wire::api::ConfigSource;

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number in that range.
    Number(i64, i64),
    /// A number with a fraction, from 0 to 1.
    Share,
    /// `true` or `false`.
    Switch,
    /// One of these.
    Word(&'static [&'static str]),
    /// Some of these, with commas.
    Words(&'static [&'static str]),
}

/// One setting of a topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    /// The broker's setting that is its default.
    pub(super) of_broker: &'static str,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
}

const fn setting(
    name: &'static str,
    of_broker: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { name, of_broker, kind, default, doc }
}

const ANY: Kind = Kind::Number(0, i64::MAX);
const LIMIT: Kind = Kind::Number(-1, i64::MAX);

/// By name, so that it can be searched. Defaults are Kafka's, but for smaller segments: small machines are to be rid of
/// old records sooner.
#[rustfmt::skip]
pub(super) const SETTINGS: &[Setting] = &[
    setting("cleanup.policy", "log.cleanup.policy", Kind::Words(&["delete", "compact"]), "delete", "What becomes of old segments."),
    setting("compression.type", "compression.type", Kind::Word(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]), "producer", "How batches are packed: as producers send them, or in this way."),
    setting("delete.retention.ms", "log.cleaner.delete.retention.ms", ANY, "86400000", "How long tombstones stay after compaction."),
    setting("file.delete.delay.ms", "log.segment.delete.delay.ms", ANY, "60000", "Accepted for Kafka's tools; files go at once."),
    setting("flush.messages", "log.flush.interval.messages", Kind::Number(1, i64::MAX), "9223372036854775807", "Accepted for Kafka's tools; see --durability."),
    setting("flush.ms", "log.flush.interval.ms", ANY, "9223372036854775807", "Accepted for Kafka's tools; see --durability."),
    setting("follower.replication.throttled.replicas", "", Kind::Words(&[]), "", "Accepted for Kafka's tools."),
    setting("index.interval.bytes", "log.index.interval.bytes", Kind::Number(0, i32::MAX as i64), "4096", "Accepted for Kafka's tools; the index has an entry each 4 KiB."),
    setting("leader.replication.throttled.replicas", "", Kind::Words(&[]), "", "Accepted for Kafka's tools."),
    setting("local.retention.bytes", "log.local.retention.bytes", Kind::Number(-2, i64::MAX), "-2", "Accepted for Kafka's tools; there is no tiered storage."),
    setting("local.retention.ms", "log.local.retention.ms", Kind::Number(-2, i64::MAX), "-2", "Accepted for Kafka's tools; there is no tiered storage."),
    setting("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", Kind::Number(1, i64::MAX), "9223372036854775807", "Accepted for Kafka's tools."),
    setting("max.message.bytes", "message.max.bytes", Kind::Number(0, i32::MAX as i64), "1048588", "Largest batch."),
    setting("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms", ANY, "3600000", "How far in the future a record's time may be."),
    setting("message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms", ANY, "9223372036854775807", "How far in the past a record's time may be."),
    setting("message.timestamp.type", "log.message.timestamp.type", Kind::Word(&["CreateTime", "LogAppendTime"]), "CreateTime", "Whose time records have."),
    setting("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", Kind::Share, "0.5", "Share of a log not yet compacted from which on it is."),
    setting("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", ANY, "0", "Accepted for Kafka's tools."),
    setting("min.insync.replicas", "min.insync.replicas", Kind::Number(1, i32::MAX as i64), "1", "Copies that acks=all waits for."),
    setting("preallocate", "log.preallocate", Kind::Switch, "false", "Accepted for Kafka's tools."),
    setting("remote.storage.enable", "", Kind::Word(&["false"]), "false", "There is no tiered storage."),
    setting("retention.bytes", "log.retention.bytes", LIMIT, "-1", "Most bytes of a partition; -1 for no limit."),
    setting("retention.ms", "log.retention.ms", LIMIT, "604800000", "How long records are kept; -1 for ever."),
    setting("segment.bytes", "log.segment.bytes", Kind::Number(14, i32::MAX as i64), "134217728", "Bytes after which a segment is finished."),
    setting("segment.index.bytes", "log.index.size.max.bytes", Kind::Number(4, i32::MAX as i64), "10485760", "Accepted for Kafka's tools."),
    setting("segment.jitter.ms", "log.roll.jitter.ms", ANY, "0", "Accepted for Kafka's tools."),
    setting("segment.ms", "log.roll.ms", Kind::Number(1, i64::MAX), "604800000", "Age after which a segment is finished."),
    setting("unclean.leader.election.enable", "unclean.leader.election.enable", Kind::Switch, "false", "Accepted for Kafka's tools; there is one copy."),
];

const TEXT: Kind = Kind::Words(&[]);
const COUNT: Kind = Kind::Number(1, i32::MAX as i64);
const IGNORED: &str = "Accepted for Kafka's tools.";

/// Settings of the broker alone that Kafka lets be changed while it runs. Kafka KIP-226.
#[rustfmt::skip]
pub(super) const BROKER_ONLY: &[Setting] = &[
    setting("", "background.threads", COUNT, "10", IGNORED),
    setting("", "log.cleaner.backoff.ms", ANY, "15000", IGNORED),
    setting("", "log.cleaner.dedupe.buffer.size", ANY, "134217728", IGNORED),
    setting("", "log.cleaner.io.buffer.load.factor", Kind::Share, "0.9", IGNORED),
    setting("", "log.cleaner.io.buffer.size", ANY, "524288", IGNORED),
    setting("", "log.cleaner.io.max.bytes.per.second", TEXT, "1.7976931348623157E308", IGNORED),
    setting("", "log.cleaner.threads", COUNT, "1", IGNORED),
    setting("", "max.connection.creation.rate", ANY, "2147483647", IGNORED),
    setting("", "max.connections", ANY, "2147483647", IGNORED),
    setting("", "max.connections.per.ip", ANY, "2147483647", IGNORED),
    setting("", "max.connections.per.ip.overrides", TEXT, "", IGNORED),
    setting("", "num.io.threads", COUNT, "8", IGNORED),
    setting("", "num.network.threads", COUNT, "3", IGNORED),
    setting("", "num.recovery.threads.per.data.dir", COUNT, "2", IGNORED),
    setting("", "num.replica.fetchers", COUNT, "1", IGNORED),
    setting("", "producer.id.expiration.ms", COUNT, "86400000", IGNORED),
    setting("", "sasl.kerberos.min.time.before.relogin", ANY, "60000", IGNORED),
];

/// The setting of that name.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.binary_search_by_key(&name, |setting| setting.name).ok().and_then(|at| SETTINGS.get(at))
}

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused(pub(super) String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks a name of a topic's setting, and a value.
pub(super) fn check(name: &str, value: &str) -> Result<(), Refused> {
    let setting = find(name).ok_or_else(|| Refused(format!("Unknown topic config name: {name}")))?;
    check_value(setting, name, value)
}

/// Checks a value of a setting that was asked for by this name.
pub(super) fn check_value(setting: &Setting, name: &str, value: &str) -> Result<(), Refused> {
    let good = match setting.kind {
        Kind::Number(min, max) => value.parse::<i64>().is_ok_and(|value| (min..=max).contains(&value)),
        Kind::Share => value.parse::<f64>().is_ok_and(|value| (0.0..=1.0).contains(&value)),
        Kind::Switch => matches!(value, "true" | "false"),
        Kind::Word(words) => words.contains(&value),
        Kind::Words([]) => true,
        Kind::Words(words) => !value.is_empty() && value.split(',').all(|word| words.contains(&word.trim())),
    };
    if good {
        return Ok(());
    }
    let wanted = match setting.kind {
        Kind::Number(min, max) => format!("a number from {min} to {max}"),
        Kind::Share => "a number from 0 to 1".to_owned(),
        Kind::Switch => "true or false".to_owned(),
        Kind::Word(words) => format!("one of {}", words.join(", ")),
        Kind::Words(words) => format!("some of {}", words.join(", ")),
    };
    Err(Refused(format!("Invalid value {value} for configuration {name}: expected {wanted}")))
}

/// What was set, of a topic or as the broker's defaults.
pub(super) type Values = BTreeMap<String, String>;

/// The value that counts, and where it comes from.
pub(super) fn value_of(setting: &Setting, own: &Values, defaults: &Defaults) -> (String, i8) {
    let of_topic = own.get(setting.name).map(|value| (value.as_str(), ConfigSource::Topic));
    let (value, source) = of_topic.unwrap_or_else(|| defaults.of(setting)[0]);
    (value.to_owned(), source as i8)
}

/// A topic's configuration as the broker uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicConfig {
    pub(super) compacts: bool,
    pub(super) deletes: bool,
    pub(super) message_bytes_max: usize,
    /// Records get the time of their append.
    pub(super) has_append_time: bool,
    pub(super) before_max_ms: i64,
    pub(super) after_max_ms: i64,
    pub(super) retention_ms: Option<u64>,
    pub(super) retention_bytes: Option<u64>,
    pub(super) segment_bytes: u64,
    pub(super) segment_ms: i64,
    pub(super) delete_retention_ms: u64,
    pub(super) dirty_percent_min: u64,
    pub(super) in_sync_min: i64,
    /// How batches are to be packed; none as they come.
    pub(super) compression: Option<Compression>,
}

impl TopicConfig {
    /// From what is set of the topic, over what is set of the broker.
    pub(super) fn new(own: &Values, defaults: &Defaults) -> Self {
        let text =
            |name: &str| find(name).map(|setting| value_of(setting, own, defaults).0).unwrap_or_default();
        // They were checked when they were set.
        let number = |name: &str| text(name).parse::<i64>().unwrap_or(0);
        let limit = |name: &str| u64::try_from(number(name)).ok();
        let policy = text("cleanup.policy");
        let has = |wanted: &str| policy.split(',').any(|word| word.trim() == wanted);
        let share = text("min.cleanable.dirty.ratio").parse::<f64>().unwrap_or(0.5);
        Self {
            compacts: has("compact"),
            compression: match text("compression.type").as_str() {
                "uncompressed" => Some(Compression::None),
                "gzip" => Some(Compression::Gzip),
                "snappy" => Some(Compression::Snappy),
                "lz4" => Some(Compression::Lz4),
                "zstd" => Some(Compression::Zstd),
                _ => None,
            },
            deletes: has("delete"),
            message_bytes_max: usize::try_from(number("max.message.bytes")).unwrap_or(0),
            has_append_time: text("message.timestamp.type") == "LogAppendTime",
            before_max_ms: number("message.timestamp.before.max.ms"),
            after_max_ms: number("message.timestamp.after.max.ms"),
            retention_ms: limit("retention.ms"),
            retention_bytes: limit("retention.bytes"),
            segment_bytes: limit("segment.bytes").unwrap_or(1 << 20).max(1),
            segment_ms: number("segment.ms"),
            delete_retention_ms: limit("delete.retention.ms").unwrap_or(0),
            dirty_percent_min: (share * 100.0) as u64,
            in_sync_min: number("min.insync.replicas"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::defaults::Scope;
    use super::*;

    #[test]
    fn settings_are_in_order_and_their_defaults_are_good() {
        assert!(SETTINGS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for setting in SETTINGS {
            assert_eq!(check(setting.name, setting.default), Ok(()), "{}", setting.name);
        }
        for setting in BROKER_ONLY {
            assert_eq!(check_value(setting, "", setting.default), Ok(()), "{}", setting.of_broker);
        }
    }

    #[test]
    fn what_is_refused_says_what_was_expected() {
        let refused = |name, value| check(name, value).unwrap_err().0;
        assert_eq!(refused("retention.hours", "1"), "Unknown topic config name: retention.hours");
        assert_eq!(
            refused("cleanup.policy", "burn"),
            "Invalid value burn for configuration cleanup.policy: expected some of delete, compact"
        );
        assert_eq!(check("cleanup.policy", "compact,delete"), Ok(()));
        assert!(check("retention.ms", "-2").is_err());
        assert!(check("retention.ms", "1.5").is_err());
    }

    #[test]
    fn a_topic_is_as_it_was_set_then_as_the_broker_is_set() {
        let of = |pairs: &[(&str, &str)]| -> Values {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let own = of(&[("retention.ms", "-1")]);
        let mut defaults = Defaults::new(of(&[("retention.ms", "5"), ("segment.bytes", "99")]));
        let config = TopicConfig::new(&own, &defaults);
        assert_eq!((config.retention_ms, config.segment_bytes), (None, 99));
        assert!(config.deletes && !config.compacts);
        // While it runs, by the broker's names: for all brokers, then for this one.
        defaults.set(Scope::All, of(&[("log.segment.bytes", "100"), ("log.cleanup.policy", "compact")]));
        let config = TopicConfig::new(&own, &defaults);
        assert_eq!((config.retention_ms, config.segment_bytes, config.compacts), (None, 100, true));
        defaults.set(Scope::Own, of(&[("log.segment.bytes", "101"), ("log.retention.ms", "7")]));
        assert_eq!(TopicConfig::new(&own, &defaults).segment_bytes, 101);
        assert_eq!(TopicConfig::new(&of(&[]), &defaults).retention_ms, Some(7));
    }
}
