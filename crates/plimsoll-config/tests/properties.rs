//! What holds for any text: `load` judges it, and never panics; what it accepts it can write and read again.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;

use plimsoll_config::defaults::MOST_DISCOVERED;
use plimsoll_config::{Source, from_flags, includes, load, parse_list};
use proptest::prelude::*;

fn judge(text: String) {
    let source = Source { path: "any.toml".to_owned(), text };
    let _ = includes(&source);
    match load(&[source.clone(), source], &|name| (name.len() < 3).then(|| name.to_owned())) {
        Ok(loaded) => drop(loaded.warnings.render(true)),
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(!problems.render(false).contains('\u{1b}'));
            drop((problems.render(true), problems.to_json()));
        }
    }
}

/// Pieces of real files, so that chance reaches the rules behind the syntax.
fn piece() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "bind", "to", "servers", "balance", "key", "policy", "host", "path", "method", "header", "respond",
        "redirect", "status", "body", "timeout", "header", "retry", "attempts", "budget", "on", "hedge",
        "upgrade", "max_body", "weight", "address", "name", "trusted", "workers", "include", "total",
        "limits", "log", "output", "format", "via", "tls", "x",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "\":80\"",
            "\"a\"",
            "\"*.a.b\"",
            "\"/x/*\"",
            "\"30s\"",
            "\"1KiB\"",
            "\"${A:-x}\"",
            "\"${\"",
            "5",
            "-1",
            "1.5",
            "true",
            "[]",
            "{}",
            "[\":80\", { address = \"é:1\", weight = 0 }]",
            "{ a = 1, b = 0 }",
            "\"hash\"",
            "1979-05-27",
            "99999999999999999999",
            "\"\"\"\n\u{1b}\n\"\"\"",
            "\"ü\"",
            "[[[[]]]]",
            "\"https://{host}{path}\"",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}".prop_map(|text| format!("{text:?}")),
    ];
    let header = prop::sample::select(vec![
        "[[listen]]",
        "[[route]]",
        "[backend.a]",
        "[backend.b]",
        "[timeout]",
        "[limits]",
        "[http]",
        "[log]",
        "[admin]",
        "[listen]",
        "[[backend.a]]",
        "[[backend.a.servers]]",
        "[route.timeout]",
        "[a.b.c]",
        "[[listen.to]]",
    ]);
    prop_oneof![
        3 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => header.prop_map(str::to_owned),
    ]
}

/// Pieces of lists of servers.
fn list_piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"a:1\"",
        "\"b:2\"",
        "\"address\":",
        "\"name\":",
        "\"weight\":",
        "1",
        "65536",
        "-1",
        "1e9",
        "true",
        "null",
        "\"targets\":",
        "\"labels\":",
        "\"plimsoll_weight\":",
        "\"plimsoll_backup\":",
        "\"3\"",
        "\"\"",
        "[\"a:1\"",
        ",\"c:3\"",
        "[{\"targets\":[\"a:1\"",
        "]}]",
        "\"unix:/a\"",
        "\"[::1]:8\"",
        "\u{e9}",
    ])
}

proptest! {
    #[test]
    fn any_text_is_judged_without_a_panic(text in any::<String>()) {
        judge(text);
    }

    #[test]
    fn any_heap_of_pieces_is_judged_without_a_panic(pieces in prop::collection::vec(piece(), 0..24)) {
        judge(pieces.join("\n"));
    }

    #[test]
    fn any_cut_of_a_good_file_is_judged_without_a_panic(start in 0usize..4000, length in 0usize..4000) {
        let full = include_str!("../../../examples/full.toml");
        let (start, end) = (full.floor_char_boundary(start), full.floor_char_boundary(start + length));
        judge(full[start..end].to_owned());
    }

    #[test]
    fn any_list_is_judged_without_a_panic_and_names_nobody_twice(pieces in prop::collection::vec(list_piece(), 0..40)) {
        if let Ok(servers) = parse_list(pieces.concat().as_bytes(), 1) {
            let names: HashSet<&str> = servers.iter().map(|server| server.name.as_str()).collect();
            prop_assert_eq!(names.len(), servers.len());
            prop_assert!(servers.len() <= MOST_DISCOVERED);
        }
    }

    #[test]
    fn a_good_list_is_read_whole(ports in prop::collection::hash_set(1..u16::MAX, 0..40), in_groups: bool) {
        let addresses: Vec<String> = ports.iter().map(|port| format!("\"10.0.0.1:{port}\"")).collect();
        let text = match in_groups {
            true => format!("[{{\"targets\": [{}]}}]", addresses.join(",")),
            false => format!("[{}]", addresses.join(",")),
        };
        prop_assert_eq!(parse_list(text.as_bytes(), 1).unwrap().len(), ports.len());
        for cut in 0..text.len() {
            prop_assert!(parse_list(&text.as_bytes()[..cut], 1).is_err(), "half a list is none");
        }
    }

    #[test]
    fn any_flags_are_judged_without_a_panic(listen: Vec<String>, to: Vec<String>) {
        if let Err(problems) = from_flags(&listen, &to) {
            drop(problems.render(false));
        }
    }

    #[test]
    fn a_variable_never_becomes_more_than_its_string(value in any::<String>()) {
        let text = "[[listen]]\nbind = \":80\"\n[[route]]\nrespond = { body = \"${X}\" }\n".to_owned();
        let source = Source { path: "x.toml".to_owned(), text };
        let loaded = load(&[source], &|_| Some(value.clone())).unwrap();
        let effective = Source { path: "x.toml".to_owned(), text: loaded.effective };
        let again = load(&[effective], &|_| None).unwrap();
        prop_assert_eq!(again.config, loaded.config);
    }
}
