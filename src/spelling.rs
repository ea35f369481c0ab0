//! What a misspelled word was probably meant to be.

/// Candidates over this number are not compared: an error must not take long.
const CANDIDATES_MAX: usize = 10_000;

/// The candidate that `given` was probably meant to be: one edit away, or two from five letters on;
/// capital letters do not count.
pub fn near_miss<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = if given.chars().count() >= 5 { 2 } else { 1 };
    let lower = given.to_lowercase();
    candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .filter(|candidate| *candidate != given && candidate.len().abs_diff(given.len()) <= 4 * limit)
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        // Of equals, the one that begins as it does: the first letter is seldom wrong.
        .min_by_key(|(distance, candidate)| {
            (*distance, candidate.to_lowercase().chars().next() != lower.chars().next())
        })
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::near_miss;

    #[test]
    fn near_is_one_edit_or_two_from_five_letters_on() {
        let verbs = ["pub", "sub", "serve", "call", "ls"];
        assert_eq!(near_miss("pbu", verbs), Some("pub"));
        assert_eq!(near_miss("srvee", verbs), Some("serve"));
        assert_eq!(near_miss("srv", verbs), None);
        assert_eq!(near_miss("call", ["call"]), None);
        assert_eq!(near_miss("CALL", verbs), Some("call"));
        assert_eq!(near_miss("fsh", ["bash", "zsh", "fish"]), Some("fish"));
    }
}
