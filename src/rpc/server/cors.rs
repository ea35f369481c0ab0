//! Which web pages may call, by the Fetch standard's rules for other origins.

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

use super::reply::ReplyBody;

/// Which web pages may call.
///
/// Requests without an `origin` header do not come from a web page and are not concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Pages from this machine. The default: a page from anywhere else could otherwise run the
    /// functions of everyone who looks at it.
    #[default]
    Loopback,
    /// Pages of these origins, such as `https://app.example`.
    Origins(Vec<String>),
    /// Every page.
    Any,
}

/// How long a browser may remember a permission.
const REMEMBER_SECONDS: HeaderValue = HeaderValue::from_static("7200");

impl Cors {
    /// `any`, or origins as browsers name them: `https://app.example`, without a path.
    ///
    /// # Errors
    /// The first that is no origin.
    pub fn of(words: &[String]) -> Result<Self, &str> {
        if words.is_empty() {
            return Ok(Self::Loopback);
        }
        if words.iter().any(|word| word == "any" || word == "*") {
            return Ok(Self::Any);
        }
        match words.iter().find(|word| !is_origin(word)) {
            Some(wrong) => Err(wrong),
            None => Ok(Self::Origins(words.to_vec())),
        }
    }

    /// True if pages of `origin` may call.
    pub fn allows(&self, origin: &HeaderValue) -> bool {
        match (self, origin.to_str()) {
            (Self::Any, _) => true,
            (Self::Origins(origins), Ok(origin)) => origins.iter().any(|allowed| allowed == origin),
            (Self::Loopback, Ok(origin)) => is_loopback(origin),
            (Self::Origins(_) | Self::Loopback, Err(_)) => false,
        }
    }
}

/// A browser sends scheme, host and port in lower case, and nothing after them; another text would never match.
fn is_origin(text: &str) -> bool {
    let rest = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, rest)| rest);
    rest.is_some_and(|host| !host.is_empty() && !host.contains('/')) && text.to_ascii_lowercase() == text
}

fn is_loopback(origin: &str) -> bool {
    let Ok(uri) = origin.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// True if a browser asks for permission before a call.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to an allowed preflight.
pub fn preflight(headers: &HeaderMap) -> http::Response<ReplyBody> {
    let mut response = http::Response::new(ReplyBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBER_SECONDS);
    if let Some(names) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}

/// Lets the page of `origin` read a response.
pub fn permit(origin: HeaderValue, response: &mut HeaderMap) {
    response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    response.append(header::VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_from_this_machine_are_allowed_by_default() {
        let allowed = |origin| Cors::default().allows(&HeaderValue::from_static(origin));
        for origin in
            ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:8080", "http://a.localhost"]
        {
            assert!(allowed(origin), "{origin}");
        }
        for origin in ["null", "", "https://example.com", "http://localhost.example.com", "http://10.0.0.1"] {
            assert!(!allowed(origin), "{origin}");
        }
    }

    #[test]
    fn named_origins_are_compared_whole() {
        let cors = Cors::Origins(vec!["https://app.example".to_owned()]);
        assert!(cors.allows(&HeaderValue::from_static("https://app.example")));
        assert!(!cors.allows(&HeaderValue::from_static("https://app.example.evil")));
        assert!(!cors.allows(&HeaderValue::from_static("http://localhost")));
        assert!(Cors::Any.allows(&HeaderValue::from_static("null")));
    }
}
