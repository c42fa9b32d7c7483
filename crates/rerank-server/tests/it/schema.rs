//! As much of JSON Schema as openapi.json uses, so that the test needs no validator with a hundred dependencies. A
//! keyword that is not known here fails the test: it must be taught before it may be written.

use serde_json::Value;

/// Keywords that describe and do not restrict.
const NOTES: &[&str] = &["description", "default"];

/// What is wrong with `value` under `schema`, or nothing.
pub(crate) fn violations(root: &Value, schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        match keyword.as_str() {
            "$ref" => {
                let pointer = rule.as_str().unwrap().trim_start_matches('#');
                let target = root.pointer(pointer).unwrap_or_else(|| panic!("{pointer} does not exist"));
                found.extend(violations(root, target, value, path));
            }
            "type" => {
                let types: Vec<&str> = match rule {
                    Value::Array(types) => types.iter().map(|kind| kind.as_str().unwrap()).collect(),
                    kind => vec![kind.as_str().unwrap()],
                };
                if !types.iter().any(|kind| has_type(value, kind)) {
                    found.push(format!("{path}: {value} is not {types:?}"));
                }
            }
            "enum" if !rule.as_array().unwrap().contains(value) => {
                found.push(format!("{path}: {value} is not in {rule}"));
            }
            "minimum" if value.as_f64().is_some_and(|number| number < rule.as_f64().unwrap()) => {
                found.push(format!("{path}: {value} is below {rule}"));
            }
            "oneOf" => {
                let fitting = rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|schema| violations(root, schema, value, path).is_empty());
                let count = fitting.count();
                if count != 1 {
                    found.push(format!("{path}: {count} alternatives fit {value}"));
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(violations(root, rule, item, &format!("{path}[{index}]")));
                }
            }
            "required" => {
                for name in rule.as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        found.push(format!("{path}: {name} is missing"));
                    }
                }
            }
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if let Some(rule) = rule.get(name) {
                        found.extend(violations(root, rule, value, &format!("{path}.{name}")));
                    }
                }
            }
            "additionalProperties" => {
                if rule == &Value::Bool(false) {
                    for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                        if schema["properties"].get(name).is_none() {
                            found.push(format!("{path}.{name} is not described"));
                        }
                    }
                }
            }
            "enum" | "minimum" => {}
            note if NOTES.contains(&note) => {}
            other => panic!("{path}: the test does not know the keyword `{other}`"),
        }
    }
    found
}

fn has_type(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("no such type: {other}"),
    }
}
