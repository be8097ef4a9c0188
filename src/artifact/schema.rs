//! What the JSON schemas say beyond the types: which keys belong to which capability, and that TOML
//! has no null.

use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use serde_json::{Map, Value, json};

use super::capability::{CapabilityName, KEYS};

/// The schema of a file of this kind as it is published.
pub fn published<T: JsonSchema>(title: &str) -> Schema {
    let mut schema = schema_for!(T);
    schema.insert("title".to_owned(), title.into());
    WithoutNull.transform(&mut schema);
    schema
}

/// The names of all capabilities.
pub fn names(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = plain_names().map(CapabilityName::as_str).collect();
    json_schema!({
        "type": "string",
        "anyOf": [{ "enum": names }, { "pattern": "^profile:[a-z0-9][a-z0-9_-]{0,62}$" }]
    })
}

/// Adds, for each capability, the keys that it needs and those that it has not.
pub fn qualify(schema: &mut Schema) {
    let mut rules: Vec<Value> = plain_names()
        .map(|name| rule(json!({ "const": name.as_str() }), name))
        .collect();
    rules.push(rule(
        json!({ "pattern": "^profile:" }),
        CapabilityName::Profile,
    ));
    schema.insert("allOf".to_owned(), rules.into());
}

fn plain_names() -> impl Iterator<Item = CapabilityName> {
    CapabilityName::ALL
        .iter()
        .copied()
        .filter(|name| *name != CapabilityName::Profile)
}

fn rule(name_is: Value, name: CapabilityName) -> Value {
    let keys = name.qualifier().keys();
    let foreign: Map<String, Value> = KEYS
        .iter()
        .filter(|key| !keys.one_of.contains(key) && !keys.beside.contains(key))
        .map(|key| ((*key).to_owned(), Value::Bool(false)))
        .collect();
    let mut then = json!({ "properties": foreign });
    if let Some(then) = then.as_object_mut()
        && !keys.one_of.is_empty()
    {
        let one_of: Vec<Value> = keys
            .one_of
            .iter()
            .map(|key| json!({ "required": [key] }))
            .collect();
        then.insert("oneOf".to_owned(), one_of.into());
    }
    json!({ "if": { "properties": { "name": name_is } }, "then": then })
}

/// Optional keys are left out, never null.
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [one] = types.as_slice() {
                let one = one.clone();
                schema.insert("type".to_owned(), one);
            }
        }
        if let Some(Value::Array(any)) = schema.get_mut("anyOf") {
            any.retain(|schema| schema.get("type") != Some(&Value::from("null")));
            if let [Value::Object(one)] = any.as_slice() {
                let one = one.clone();
                schema.remove("anyOf");
                for (key, value) in one {
                    schema.insert(key, value);
                }
            }
        }
        transform_subschemas(self, schema);
    }
}
