//! The presence to identify with: JSON that is checked here, since Discord only closes with 4002 where it is wrong.

use serde_json::Value;
use serde_json::value::RawValue;

use super::report::Report;

const NAME: &str = "DISCORD_PRESENCE";
const STATUSES: [&str; 5] = ["online", "dnd", "idle", "invisible", "offline"];
const TYPES: &str = "0 playing, 1 streaming, 2 listening, 3 watching, 4 custom, 5 competing";
const REMEDY: &str = r#"write such as {"status":"online","activities":[{"name":"chess","type":0}]}"#;

pub(super) fn parse(text: &str, report: &mut Report) -> Option<Box<RawValue>> {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            report.wrong(NAME, text, format!("not JSON: {error}"), REMEDY);
            return None;
        }
    };
    if let Err(problem) = check(&value, report) {
        report.wrong(NAME, text, problem, REMEDY);
        return None;
    }
    // Text that is JSON is also this: it only keeps it as it is.
    serde_json::from_str(text).ok()
}

fn check(value: &Value, report: &mut Report) -> Result<(), String> {
    let presence = value.as_object().ok_or("not an object")?;
    for (key, value) in presence {
        match (key.as_str(), value) {
            ("status", value) if value.as_str().is_some_and(|status| STATUSES.contains(&status)) => {}
            ("status", value) => return Err(format!("status is {value}, not one of {}", STATUSES.join(", "))),
            ("afk", Value::Bool(_)) | ("since", Value::Null) => {}
            ("afk", _) => return Err("afk is neither true nor false".to_owned()),
            ("since", value) if value.is_u64() => {}
            ("since", _) => return Err("since is neither null nor a time in Unix milliseconds".to_owned()),
            ("activities", Value::Array(activities)) => {
                for (n, activity) in activities.iter().enumerate() {
                    check_activity(activity).map_err(|problem| format!("activity {n} {problem}"))?;
                }
            }
            ("activities", _) => return Err("activities is not a list".to_owned()),
            ("game", _) => return Err("game is no longer a field: activities took its place".to_owned()),
            (other, _) => report.warn(NAME, format!("{other} is no field that Discord documents for a presence")),
        }
    }
    Ok(())
}

fn check_activity(activity: &Value) -> Result<(), String> {
    let activity = activity.as_object().ok_or("is not an object")?;
    if !activity.get("name").is_some_and(Value::is_string) {
        return Err("has no name that is text".to_owned());
    }
    match activity.get("type") {
        Some(kind) if kind.as_u64().is_some_and(|kind| kind <= 5) => {}
        Some(kind) => return Err(format!("has the type {kind}, and not a number: {TYPES}")),
        None => return Err(format!("has no type: {TYPES}")),
    }
    if activity.get("url").is_some_and(|url| !url.is_null() && !url.is_string()) {
        return Err("has a url that is not text".to_owned());
    }
    Ok(())
}
