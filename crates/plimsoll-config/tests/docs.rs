//! `docs/CONFIGURATION.md` against the program: its key tables are those of the schema, and its TOML loads.
//!
//! `UPDATE_GOLDEN=1` writes the tables anew, between the marks `<!-- keys: ID -->` and `<!-- end -->`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use plimsoll_config::{Source, load, schema};
use serde_json::Value;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CONFIGURATION.md")
}

/// How a value of this schema is called in the reference.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return if matches!(name, "time" | "size" | "percentage") {
            name.to_owned()
        } else {
            "table".to_owned()
        };
    }
    if let Some(forms) = schema["anyOf"].as_array() {
        let forms = forms.iter().filter(|form| form["$ref"] != "#/$defs/reference").map(kind);
        return forms.collect::<Vec<_>>().join(" or ");
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(alone) = schema.get("const") {
        return format!("`{alone}`");
    }
    match schema["type"].as_str() {
        Some("string") => schema["title"].as_str().unwrap_or("string").to_owned(),
        Some("integer" | "number") => format!("{} to {}", schema["minimum"], schema["maximum"]),
        Some("array") => format!("array: {}", kind(&schema["items"])),
        Some("object") => format!("table of names: {}", kind(&schema["additionalProperties"])),
        Some(other) => other.to_owned(),
        None => panic!("{schema}"),
    }
}

fn row(key: &str, schema: &Value, required: bool) -> String {
    let description = schema["description"].as_str().unwrap();
    let (meaning, said) = match description.rsplit_once(" Default: ") {
        Some((meaning, said)) => (meaning, Some(said.trim_end_matches('.').to_owned())),
        None => (description, None),
    };
    let default = match &schema["default"] {
        Value::Null => {
            said.unwrap_or_else(|| if required { "**required**".to_owned() } else { "–".to_owned() })
        }
        Value::Object(_) => "see below".to_owned(),
        value => format!("`{value}`"),
    };
    format!("| `{key}` | {} | {default} | {meaning} |\n", kind(schema))
}

fn table(schema: &Value) -> String {
    let mut text = "| key | type | default | meaning |\n|---|---|---|---|\n".to_owned();
    let required = schema["required"].as_array().unwrap();
    for (key, property) in schema["properties"].as_object().unwrap() {
        text.push_str(&row(key, property, required.contains(&Value::from(key.as_str()))));
    }
    text
}

/// Every table of the schema that has keys, with its mark.
fn tables() -> Vec<(String, String)> {
    let schema = schema();
    let mut tables = vec![("top".to_owned(), table(&schema))];
    for (id, definition) in schema["$defs"].as_object().unwrap() {
        if definition["properties"].is_object() {
            tables.push((id.clone(), table(definition)));
        }
    }
    tables
}

#[test]
fn the_reference_shows_every_key_with_its_default() {
    let before = fs::read_to_string(path()).unwrap();
    let mut text = before.clone();
    for (id, table) in tables() {
        let mark = format!("<!-- keys: {id} -->\n");
        let start = text.find(&mark).unwrap_or_else(|| panic!("{mark} is missing")) + mark.len();
        let end = start + text[start..].find("<!-- end -->").unwrap();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            text.replace_range(start..end, &table);
        } else {
            assert_eq!(&text[start..end], table, "the keys of {id}");
        }
    }
    // Other tests read the file meanwhile.
    if text != before {
        fs::write(path(), &text).unwrap();
    }
}

/// A block without a listener shows a part; it gets one, so that the rest can be judged.
#[test]
fn every_toml_block_of_the_reference_loads() {
    let text = fs::read_to_string(path()).unwrap();
    let blocks: Vec<&str> =
        text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 10, "{}", blocks.len());
    for block in blocks {
        let listener = "\n[[listen]]\nbind = \":8080\"\nto = [\":8000\"]\n";
        let whole =
            if block.contains("[[listen]]") { block.to_owned() } else { format!("{block}{listener}") };
        let source = Source { path: "CONFIGURATION.md".to_owned(), text: whole };
        let loaded = load(&[source], &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }
}

/// The message shown as an example is the one that is given.
#[test]
fn the_problem_shown_in_the_reference_is_real() {
    let text = fs::read_to_string(path()).unwrap();
    let shown = text.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let source = Source {
        path: "plimsoll.toml".to_owned(),
        text: "[[listen]]\nbind = \":8080\"\nto   = [\":8000\"]\n\n[timeout]\nhaeder = \"5s\"\nidle   = 60\n"
            .to_owned(),
    };
    assert_eq!(load(&[source], &|_| None).unwrap_err().render(false), shown);
}
