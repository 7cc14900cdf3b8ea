//! Configuration from any bytes: `load` never panics, its report can be shown, and its own output means the same.
//!
//! The input is UTF-8, one source or several with form feeds between them. Some variables are set, some are not.

use plimsoll_config::{Source, includes, load, schema};

/// Loads the input as a configuration.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let sources: Vec<Source> = text
        .split('\u{c}')
        .take(4)
        .enumerate()
        .map(|(number, text)| Source { path: format!("{number}.toml"), text: text.to_owned() })
        .collect();
    if let Some(main) = sources.first() {
        let _ = includes(main);
    }
    let env = |name: &str| match name {
        "ADDRESS" => Some("127.0.0.1:8080".to_owned()),
        "ODD" => Some("\"\n[${ADDRESS}".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    match load(&sources, &env) {
        Err(problems) => {
            assert!(!problems.render(false).is_empty() && !problems.render(true).is_empty());
        }
        Ok(loaded) => {
            let _ = loaded.warnings.render(false);
            let again = [Source { path: "effective.toml".to_owned(), text: loaded.effective.clone() }];
            match load(&again, &|_| None) {
                Ok(same) => assert_eq!(same.config, loaded.config, "{}", loaded.effective),
                Err(problems) => panic!("{}\n{}", problems.render(false), loaded.effective),
            }
        }
    }
    let _ = schema();
}
