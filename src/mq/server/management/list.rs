//! Lists as they are wanted: sorted, in pages, filtered by name, with some of their columns.

use std::cmp::Ordering;

use http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::reply::Refusal;
use crate::mq::engine::{Expression, regex};
use crate::transport::http::Query;

/// RabbitMQ's.
const PAGE_SIZE_DEFAULT: usize = 100;
/// RabbitMQ's.
const PAGE_SIZE_MAX: usize = 500;

/// A list, or a page of it.
pub(super) fn shape(mut items: Vec<Json>, query: &Query) -> Result<Json, Refusal> {
    let page = Page::of(query)?;
    if let Some(column) = query.get("sort").filter(|column| !column.is_empty()) {
        items.sort_by(|a, b| compare(at(a, column), at(b, column)));
    }
    if query.get("sort_reverse") == Some("true") {
        items.reverse();
    }
    let Some(page) = page else {
        return Ok(items.into_iter().map(|item| columns(item, query)).collect());
    };
    let total = items.len();
    if let Some(filter) = &page.filter {
        items.retain(|item| item.get("name").and_then(Json::as_str).is_some_and(|name| filter.keeps(name)));
    }
    let (filtered, first) = (items.len(), (page.number - 1).saturating_mul(page.size));
    if first > 0 && first >= filtered {
        return Err(Refusal::with(
            StatusCode::BAD_REQUEST,
            "page_out_of_range",
            format!("Page out of range, page: {} page size: {}, len: {filtered}", page.number, page.size),
        ));
    }
    let items: Vec<Json> =
        items.into_iter().skip(first).take(page.size).map(|item| columns(item, query)).collect();
    Ok(json!({
        "filtered_count": filtered, "item_count": items.len(), "items": items, "page": page.number,
        "page_count": filtered.div_ceil(page.size), "page_size": page.size, "total_count": total,
    }))
}

/// Which part is wanted.
struct Page {
    number: usize,
    size: usize,
    filter: Option<Filter>,
}

enum Filter {
    Contains(String),
    Matches(Expression),
}

impl Filter {
    fn keeps(&self, name: &str) -> bool {
        match self {
            Self::Contains(part) => name.to_lowercase().contains(part),
            Self::Matches(regex) => regex.is_match(name),
        }
    }
}

impl Page {
    fn of(query: &Query) -> Result<Option<Self>, Refusal> {
        let Some(number) = query.get("page") else { return Ok(None) };
        let invalid = || Refusal::bad_request("Pagination parameters are invalid");
        let number: usize = number.parse().map_err(|_| invalid())?;
        let given: Option<usize> =
            query.get("page_size").map(str::parse).transpose().map_err(|_| invalid())?;
        let size = given.unwrap_or(PAGE_SIZE_DEFAULT);
        if number == 0 || size == 0 || size > PAGE_SIZE_MAX {
            let size = given.map_or_else(|| "undefined".to_owned(), |size| size.to_string());
            return Err(Refusal::with(
                StatusCode::BAD_REQUEST,
                "invalid_pagination_parameters",
                format!("Invalid pagination parameters: page number {number}, page size {size}"),
            ));
        }
        let filter = match query.get("name").filter(|name| !name.is_empty()) {
            None => None,
            Some(name) if query.get("use_regex") == Some("true") => {
                Some(Filter::Matches(regex(name).map_err(|_| invalid())?))
            }
            Some(name) => Some(Filter::Contains(name.to_lowercase())),
        };
        Ok(Some(Self { number, size, filter }))
    }
}

/// A member, or one of a member: `message_stats.publish`.
fn at<'a>(item: &'a Json, column: &str) -> Option<&'a Json> {
    if let Some(value) = item.get(column) {
        return Some(value);
    }
    column.split('.').try_fold(item, |value, part| value.get(part))
}

/// What is missing comes first, then numbers, then texts.
fn compare(a: Option<&Json>, b: Option<&Json>) -> Ordering {
    fn rank(value: Option<&Json>) -> u8 {
        match value {
            None | Some(Json::Null) => 0,
            Some(Json::Number(_)) => 1,
            Some(Json::Bool(_)) => 2,
            Some(Json::String(_)) => 3,
            Some(_) => 4,
        }
    }
    match (a, b) {
        (Some(Json::Number(a)), Some(Json::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Json::String(a)), Some(Json::String(b))) => a.cmp(b),
        (Some(Json::Bool(a)), Some(Json::Bool(b))) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Of every object in it, only the columns that are wanted.
pub(super) fn columns(value: Json, query: &Query) -> Json {
    match query.get("columns").filter(|columns| !columns.is_empty()) {
        None => value,
        Some(wanted) => {
            let wanted: Vec<Vec<&str>> = wanted.split(',').map(|path| path.split('.').collect()).collect();
            only(value, &wanted)
        }
    }
}

fn only(value: Json, wanted: &[Vec<&str>]) -> Json {
    match value {
        Json::Object(object) => {
            let mut kept = Map::new();
            for (name, value) in object {
                let below: Vec<&[&str]> = wanted
                    .iter()
                    .filter(|path| path.first() == Some(&&*name))
                    .map(|path| &path[1..])
                    .collect();
                if below.iter().any(|path| path.is_empty()) {
                    kept.insert(name, value);
                } else if !below.is_empty() {
                    let below: Vec<Vec<&str>> = below.into_iter().map(<[&str]>::to_vec).collect();
                    kept.insert(name, only(value, &below));
                }
            }
            Json::Object(kept)
        }
        Json::Array(items) => items.into_iter().map(|item| only(item, wanted)).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(query: &str) -> Result<Json, Refusal> {
        let items = vec![
            json!({"name": "b", "n": 2, "s": {"x": 1, "y": 2}}),
            json!({"name": "a", "n": 10}),
            json!({"name": "A1", "n": 1}),
        ];
        shape(items, &Query::new(Some(query)))
    }

    #[test]
    fn lists_are_sorted_cut_and_filtered() {
        let names = |query: &str| {
            let value = shaped(query).unwrap();
            let items = value.get("items").unwrap_or(&value).as_array().unwrap().clone();
            items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["b", "a", "A1"]);
        assert_eq!(names("sort=n"), ["A1", "b", "a"]);
        assert_eq!(names("sort=n&sort_reverse=true"), ["a", "b", "A1"]);
        assert_eq!(names("sort=s.x"), ["a", "A1", "b"]);
        assert_eq!(names("page=1&page_size=2"), ["b", "a"]);
        assert_eq!(names("page=2&page_size=2"), ["A1"]);
        assert_eq!(names("page=1&name=A"), ["a", "A1"]);
        assert_eq!(names("page=1&name=^a&use_regex=true"), ["a"]);
        for wrong in ["page=x", "page=0", "page=1&page_size=501", "page=9", "page=1&name=(&use_regex=true"] {
            assert!(shaped(wrong).is_err(), "{wrong}");
        }
        assert!(shaped("page=18446744073709551615&page_size=500").is_err());
    }

    #[test]
    fn columns_may_lie_deep() {
        let kept = shaped("columns=n,s.y").unwrap();
        assert_eq!(kept, json!([{"n": 2, "s": {"y": 2}}, {"n": 10}, {"n": 1}]));
    }
}
