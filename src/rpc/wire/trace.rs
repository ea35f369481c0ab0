//! The server's side of a traced call, in the trailer `bandy-trace`: `dispatch 12 0, decode 15 5, …`.

use std::time::Duration;

use http::HeaderName;

/// Asks for a trace in a request (`1`), carries it in the trailers of the reply.
pub const NAME: HeaderName = HeaderName::from_static("bandy-trace");

/// What the server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Found the method.
    Dispatch,
    /// Has the request message; the size is the message's.
    Decode,
    /// Gave it to the handler.
    Handler,
    /// Has the reply message; the size is the message's.
    Serialise,
}

impl Stage {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Dispatch, "dispatch"),
        (Self::Decode, "decode"),
        (Self::Handler, "handler"),
        (Self::Serialise, "serialise"),
    ];

    /// The name on the wire and for people.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// A stage and when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The stage.
    pub stage: Stage,
    /// Since the request's headers were there; microseconds on the wire.
    pub at: Duration,
    /// Bytes of the message, or 0.
    pub size: usize,
}

/// Writes steps.
pub fn encode(steps: &[Step]) -> String {
    let steps =
        steps.iter().map(|step| format!("{} {} {}", step.stage.name(), step.at.as_micros(), step.size));
    steps.collect::<Vec<_>>().join(", ")
}

/// Reads steps; what is not understood is left out.
pub fn decode(text: &str) -> Vec<Step> {
    let step = |item: &str| {
        let mut words = item.split_ascii_whitespace();
        let name = words.next()?;
        let (stage, _) = Stage::ALL.into_iter().find(|(_, known)| *known == name)?;
        let at = Duration::from_micros(words.next()?.parse().ok()?);
        Some(Step { stage, at, size: words.next()?.parse().ok()? })
    };
    text.split(',').filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steps_come_back() {
        let steps = [
            Step { stage: Stage::Dispatch, at: Duration::from_micros(12), size: 0 },
            Step { stage: Stage::Decode, at: Duration::from_micros(15), size: 5 },
            Step { stage: Stage::Handler, at: Duration::from_micros(15), size: 0 },
            Step { stage: Stage::Serialise, at: Duration::from_micros(900), size: 12 },
        ];
        let text = encode(&steps);
        assert_eq!(text, "dispatch 12 0, decode 15 5, handler 15 0, serialise 900 12");
        assert_eq!(decode(&text), steps);
        assert_eq!(decode("sleep 1 1, dispatch x 1, decode 3"), []);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text: String) {
            let _ = decode(&text);
        }
    }
}
