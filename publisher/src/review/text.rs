//! Any other signed text: which keys changed, and which members of their lists came and went.

use std::collections::{BTreeMap, BTreeSet};

use lockgate_signing::target::TargetPath;
use toml::{Table, Value};

use super::Section;
use super::lists::came_and_went;

/// A value in a text: one thing, or a list of things.
#[derive(Debug, PartialEq)]
enum Leaf {
    One(String),
    List(Vec<String>),
}

pub(super) fn section(path: &TargetPath, before: Option<(&TargetPath, &[u8])>, after: &[u8]) -> Section {
    let (kind, id, version) = (path.kind().name(), path.id(), path.version());
    let title = match before {
        Some((before, _)) => format!("{}: {id} {version} follows {}", capital(kind), before.version()),
        None => format!("New {kind}: {id} {version}"),
    };
    let old = before.map(|(_, bytes)| leaves(bytes)).unwrap_or_default();
    let mut lines = differences(&old, &leaves(after));
    if lines.is_empty() {
        lines.push("says the same as before".to_owned());
    }
    Section { title, lines }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn leaves(bytes: &[u8]) -> BTreeMap<String, Leaf> {
    let table = std::str::from_utf8(bytes).ok().and_then(|text| toml::from_str::<Table>(text).ok());
    let mut leaves = BTreeMap::new();
    collect(&mut leaves, String::new(), Value::Table(table.unwrap_or_default()));
    for said_in_the_title in ["format", "id", "version"] {
        leaves.remove(said_in_the_title);
    }
    leaves
}

fn collect(leaves: &mut BTreeMap<String, Leaf>, place: String, value: Value) {
    let below = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                collect(leaves, below(&key), value);
            }
        }
        Value::Array(members) if members.iter().any(Value::is_table) => {
            for (position, value) in members.into_iter().enumerate() {
                collect(leaves, below(&(position + 1).to_string()), value);
            }
        }
        Value::Array(members) => {
            leaves.insert(place, Leaf::List(members.iter().map(plain).collect()));
        }
        one => {
            leaves.insert(place, Leaf::One(plain(&one)));
        }
    }
}

fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // SQL of several lines in one; and nothing that a terminal would take for a command.
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "·")
}

fn differences(old: &BTreeMap<String, Leaf>, new: &BTreeMap<String, Leaf>) -> Vec<String> {
    let mut lines = Vec::new();
    let places: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for place in places {
        match (old.get(place), new.get(place)) {
            (before, after) if before == after => {}
            (None, Some(Leaf::One(is))) => lines.push(format!("{place}: {is}")),
            (Some(Leaf::One(was)), Some(Leaf::One(is))) => lines.push(format!("{place}: was {was}, is {is}")),
            (Some(Leaf::One(was)), None) => lines.push(format!("{place}: went, was {was}")),
            (before, after) => {
                let (was, is) = (members(before), members(after));
                let changes = came_and_went(&format!("in {place}"), "", &was, &is);
                if changes.is_empty() {
                    lines.push(format!("{place}: in another order"));
                }
                lines.extend(changes);
            }
        }
    }
    lines
}

fn members(leaf: Option<&Leaf>) -> BTreeSet<String> {
    match leaf {
        None => BTreeSet::new(),
        Some(Leaf::One(one)) => BTreeSet::from([one.clone()]),
        Some(Leaf::List(list)) => list.iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_and_go_and_single_values_change() {
        let old = leaves(b"id = \"a\"\nday = 2026-11-01\n[rule]\ncodes = [\"x\", \"y\"]\nsame = 1\n[[epoch]]\nkey = \"k\"\n");
        let new = leaves(
            b"id = \"b\"\nday = 2027-11-01\n[rule]\ncodes = [\"y\", \"z\"]\nsame = 1\nmore = \"a\\u001bb\"\n",
        );
        assert_eq!(
            differences(&old, &new),
            [
                "day: was 2026-11-01, is 2027-11-01",
                "epoch.1.key: went, was k",
                "1 in rule.codes came: z",
                "1 in rule.codes went: x",
                "rule.more: a·b",
            ]
        );
    }
}
