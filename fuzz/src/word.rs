//! A server's word from any bytes: bounded, in one line, the same when written anew, and the same whether it is said at once or word by word.

use plimsoll_config::defaults::MOST;
use plimsoll_traffic::Word;

/// The largest share that HAProxy knows, in percent.
const MOST_PERCENT: u32 = 25_600;
/// Of a reason, in characters.
const SHOWN: usize = 200;

/// Reads the input as a line of an agent, or as the value of a field.
pub fn check(input: &[u8]) {
    let said = Word::parse(input);
    assert!(said.share.is_none_or(|share| share <= MOST_PERCENT), "{said:?}");
    assert!(said.max_requests.is_none_or(|most| u64::from(most) <= MOST), "{said:?}");
    for text in [Some(&said.reason), said.unknown.as_ref()].into_iter().flatten() {
        assert!(text.chars().count() <= SHOWN && !text.contains(char::is_control), "{said:?}");
    }
    let again = Word::parse(written(&said).as_bytes());
    let reason = said.reason.trim().to_owned();
    assert_eq!(again, Word { reason, unknown: None, ..said.clone() }, "{}", input.escape_ascii());
    word_by_word(input, &said);
}

/// Of a line, that is: what is said later counts.
fn word_by_word(input: &[u8], whole: &Word) {
    if input.contains(&b'#') {
        return;
    }
    let mut parts = Word::default();
    input.split(|byte| b" \t,".contains(byte)).for_each(|word| parts.then(Word::parse(word)));
    let wishes = |word: &Word| (word.state, word.health, word.share, word.max_requests);
    assert_eq!(wishes(&parts), wishes(whole), "{}", input.escape_ascii());
    assert_eq!(parts.unknown.is_some(), whole.unknown.is_some(), "{}", input.escape_ascii());
}

fn written(said: &Word) -> String {
    let words = [
        said.state.map(|state| state.as_str().to_owned()),
        said.health.map(|claim| claim.as_str().to_owned()),
        said.share.map(|share| format!("{share}%")),
        said.max_requests.map(|most| format!("maxconn:{most}")),
        Some(format!("# {}", said.reason)),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
