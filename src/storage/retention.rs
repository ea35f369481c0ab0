//! Which segments may go: a pure function.

/// How long and how much a log keeps. Both are upper bounds, applied to whole segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Oldest age of a segment's newest record, in ms; none keeps for ever.
    pub age_max_ms: Option<u64>,
    /// Most bytes of the log; none keeps all. What is over goes when the rest is still at least as much.
    pub bytes_max: Option<u64>,
}

/// What a decision needs to know of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Offset after its last record.
    pub end: i64,
    /// Bytes of its batches.
    pub size: u64,
    /// Newest time of a record, in ms since 1970; negative when there is none.
    pub max_timestamp: i64,
}

/// How many segments at the front may go. Never the last one, and nothing that reaches past `bound`, the high watermark.
pub fn expired(segments: &[SegmentFacts], retention: &Retention, now_ms: i64, bound: i64) -> usize {
    let finished = segments.split_last().map_or(&[][..], |(_, before)| before);
    let movable = finished.iter().take_while(|segment| segment.end <= bound);
    let mut rest: u64 = segments.iter().map(|segment| segment.size).sum();
    let mut count = 0;
    for segment in movable {
        // A clock that jumped back makes ages negative: nothing expires then.
        let age = now_ms.saturating_sub(segment.max_timestamp);
        let too_old = retention
            .age_max_ms
            .is_some_and(|max| segment.max_timestamp >= 0 && u64::try_from(age).is_ok_and(|age| age > max));
        let too_much = retention.bytes_max.is_some_and(|max| rest - segment.size >= max);
        if !too_old && !too_much {
            break;
        }
        rest -= segment.size;
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Vec<SegmentFacts> {
        (1..=4).map(|n| SegmentFacts { end: n * 10, size: 100, max_timestamp: n * 1000 }).collect()
    }

    #[test]
    fn old_segments_go_but_never_the_last() {
        let age = |max| Retention { age_max_ms: Some(max), bytes_max: None };
        assert_eq!(expired(&segments(), &age(1000), 3500, 40), 2);
        assert_eq!(expired(&segments(), &age(0), i64::MAX, 40), 3);
        assert_eq!(expired(&segments(), &age(0), i64::MAX, 25), 2, "not past the high watermark");
        assert_eq!(expired(&segments(), &age(0), -5, 40), 0, "the clock jumped back");
        assert_eq!(expired(&segments(), &Retention::default(), i64::MAX, 40), 0);
        assert_eq!(expired(&[], &age(0), 0, 0), 0);
    }

    #[test]
    fn large_logs_shrink_to_no_less_than_the_limit() {
        let bytes = |max| Retention { age_max_ms: None, bytes_max: Some(max) };
        assert_eq!(expired(&segments(), &bytes(250), 0, 40), 1);
        assert_eq!(expired(&segments(), &bytes(200), 0, 40), 2);
        assert_eq!(expired(&segments(), &bytes(0), 0, 40), 3);
        assert_eq!(expired(&segments(), &bytes(400), 0, 40), 0);
    }
}
