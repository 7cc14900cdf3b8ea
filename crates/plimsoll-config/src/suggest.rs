//! "Did you mean": the known word that is closest to what was written.
//!
//! Edit distance (Damerau-Levenshtein) with a bound that grows with the word, so that a short typo finds its word and a
//! foreign word finds none. Ties go to the first candidate.

/// The closest of `candidates`, if any is close enough.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = fold(word);
    let bound = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The help line for `closest`.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// Spelling that should not count as distance.
fn fold(word: &str) -> String {
    word.chars().take(64).map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_typo_and_another_spelling() {
        let words = ["round_robin", "least_conn", "random"];
        assert_eq!(closest("round-robin", words), Some("round_robin"));
        assert_eq!(closest("leastconn", words), Some("least_conn"));
        assert_eq!(closest("radnom", words), Some("random"));
    }

    #[test]
    fn a_foreign_word_finds_nothing() {
        assert_eq!(closest("sticky", ["to", "host", "path"]), None);
    }
}
