//! The JSON Schema of a configuration file, made from the vocabulary.
//!
//! For editors: titles, descriptions, words, bounds and defaults. It knows no rule that needs two keys, and lets every
//! string be a `${ENV}` reference. A default that is no value stands at the end of the description.

use serde_json::{Map, Value, json};

use crate::units::{format_duration, format_percent, format_size};
use crate::vocabulary::{ALL, Default, Key, Kind, ROOT, Table};

/// The schema (JSON Schema 2020-12).
pub fn schema() -> Value {
    let mut definitions: Map<String, Value> = Map::new();
    for table in ALL.iter().filter(|table| table.id != ROOT.id) {
        definitions.insert(table.id.to_owned(), table_schema(table));
    }
    definitions.insert(
        "time".to_owned(),
        unit("^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$", "A time: \"250ms\", \"2s\", \"1m30s\", \"1h\"."),
    );
    definitions.insert(
        "size".to_owned(),
        unit("^[0-9]+(B|KB|KiB|MB|MiB|GB|GiB)$", "A size: \"512B\", \"64KiB\", \"10MiB\", \"1MB\"."),
    );
    definitions.insert("percentage".to_owned(), unit("^[0-9]+%$", "Whole percent: \"20%\"."));
    definitions.insert(
        "reference".to_owned(),
        json!({ "type": "string", "pattern": REFERENCE, "description": "A string with `${ENV}` or `${ENV:-default}` in it." }),
    );
    let Value::Object(mut root) = table_schema(&ROOT) else { unreachable!("a table's schema is an object") };
    root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".to_owned(), json!("Plimsoll configuration"));
    root.insert("$defs".to_owned(), Value::Object(definitions));
    Value::Object(root)
}

/// Any string that refers to a variable.
const REFERENCE: &str = "\\$\\{";

fn unit(pattern: &str, about: &str) -> Value {
    json!({
        "description": about,
        "type": "string",
        "minLength": 1,
        "anyOf": [{ "pattern": pattern }, { "pattern": REFERENCE }],
    })
}

fn table_schema(table: &Table) -> Value {
    let properties: Map<String, Value> =
        table.keys.iter().map(|key| (key.name.to_owned(), key_schema(key))).collect();
    let required: Vec<&str> = table
        .keys
        .iter()
        .filter(|key| matches!(key.default, Default::Required))
        .map(|key| key.name)
        .collect();
    json!({
        "title": table.title,
        "description": table.about,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn key_schema(key: &Key) -> Value {
    let mut schema = kind_schema(&key.kind);
    let about = match &key.default {
        Default::Said(said) => format!("{} Default: {said}.", key.about),
        _ => key.about.to_owned(),
    };
    schema["description"] = json!(about);
    if let Some(default) = default_schema(&key.default) {
        schema["default"] = default;
    }
    schema
}

fn default_schema(default: &Default) -> Option<Value> {
    Some(match default {
        Default::Required | Default::Said(_) | Default::Alternative => return None,
        Default::Text(text) => json!(text),
        Default::Texts(texts) => json!(texts),
        Default::Number(number) => json!(number),
        Default::Percent(percent) => json!(format_percent(*percent)),
        Default::Time(time) => json!(format_duration(*time)),
        Default::Size(bytes) => json!(format_size(*bytes)),
        Default::Bool(flag) => json!(flag),
        Default::Filled => json!({}),
    })
}

fn kind_schema(kind: &Kind) -> Value {
    match kind {
        Kind::Text(form) => json!({ "type": "string", "title": form }),
        Kind::Choice(choice) => json!({ "anyOf": [{ "enum": choice.words }, definition("reference")] }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Number(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Factor(min, max) => {
            json!({ "type": "number", "minimum": *min as f64 / 100.0, "maximum": *max as f64 / 100.0 })
        }
        Kind::Status(known) => json!({ "type": "integer", "enum": known }),
        Kind::Time(..) => definition("time"),
        Kind::Size(..) => definition("size"),
        Kind::Percent(..) => definition("percentage"),
        Kind::Switch(table) if !table.stands_alone() => {
            json!({ "anyOf": [{ "const": false }, definition(table.id)] })
        }
        Kind::Switch(table) => json!({ "anyOf": [{ "type": "boolean" }, definition(table.id)] }),
        Kind::List(least, of) => json!({ "type": "array", "items": kind_schema(of), "minItems": least }),
        Kind::Many(of) => {
            json!({ "anyOf": [kind_schema(of), { "type": "array", "items": kind_schema(of) }] })
        }
        Kind::Table(table) => definition(table.id),
        Kind::Short(short, table) => {
            let alone =
                table.key(short).map_or_else(|| json!({ "type": "string" }), |key| kind_schema(&key.kind));
            json!({ "anyOf": [alone, definition(table.id)] })
        }
        Kind::ShortOrNo(short, table) => {
            let mut either = kind_schema(&Kind::Short(short, table));
            if let Some(forms) = either["anyOf"].as_array_mut() {
                forms.push(json!({ "const": false }));
            }
            either
        }
        Kind::Map(_, of) => json!({ "type": "object", "additionalProperties": kind_schema(of) }),
        Kind::TextOr(form, of) => json!({ "anyOf": [{ "type": "string", "title": form }, kind_schema(of)] }),
    }
}

fn definition(id: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{id}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_has_its_definition() {
        let schema = schema();
        let text = schema.to_string();
        let names: Vec<&str> =
            text.split("#/$defs/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(names.len() > 20);
        for name in names {
            assert!(schema["$defs"][name].is_object(), "{name}");
        }
    }

    #[test]
    fn shows_defaults_as_they_are_written() {
        let schema = schema();
        assert_eq!(schema["$defs"]["timeout"]["properties"]["header"]["default"], "10s");
        assert_eq!(schema["$defs"]["limits"]["properties"]["target"]["default"], "8KiB");
    }
}
