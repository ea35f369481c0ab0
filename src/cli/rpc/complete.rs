//! What the shell is offered while a method or service is typed: what the server has, or had the last time.

use std::collections::HashMap;
use std::time::Duration;

use super::lookup;
use super::remote::{ProtocolArgs, Remote, Wanted};
use crate::cli::app::App;
use crate::cli::completions::Candidate;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::Exit;
use crate::rpc::client::resolve::is_standard;

/// After this, what the server offered the last time is good enough.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(100);

/// Methods: as `Service/Method` where that is clear, and by their whole names.
pub fn methods(app: &App, connect: &ConnectArgs) -> Vec<Vec<Candidate>> {
    let paths = paths(app, connect);
    let short = |path: &String| match path.split_once('/') {
        Some((service, method)) => format!("{}/{method}", last_word(service)),
        None => path.clone(),
    };
    vec![clear(&paths, short), clear(&paths, String::clone)]
}

/// Services: by the last word of their names where that is clear, and by their whole names.
pub fn services(app: &App, connect: &ConnectArgs) -> Vec<Vec<Candidate>> {
    let mut services: Vec<String> =
        paths(app, connect).iter().filter_map(|path| Some(path.split_once('/')?.0.to_owned())).collect();
    services.dedup();
    vec![clear(&services, |service| last_word(service).to_owned()), clear(&services, String::clone)]
}

/// Services and methods.
pub fn symbols(app: &App, connect: &ConnectArgs) -> Vec<Vec<Candidate>> {
    let both = services(app, connect).into_iter().zip(methods(app, connect));
    both.map(|(services, methods)| services.into_iter().chain(methods).collect()).collect()
}

fn last_word(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Those whose short form stands for nothing else.
fn clear(names: &[String], short: impl Fn(&String) -> String) -> Vec<Candidate> {
    let mut count: HashMap<String, usize> = HashMap::new();
    names.iter().for_each(|name| *count.entry(short(name)).or_default() += 1);
    let unique = names.iter().filter(|name| count.get(&short(name)) == Some(&1));
    unique
        .map(|name| {
            let word = short(name);
            let about = if word == *name { String::new() } else { name.clone() };
            Candidate { word, about }
        })
        .collect()
}

fn paths(app: &App, connect: &ConnectArgs) -> Vec<String> {
    let mut paths = Vec::new();
    let ask = async {
        let remote = Remote::open(connect, &ProtocolArgs::default(), Wanted::Anything, app).await?;
        paths = lookup::paths(&remote, ANSWER_TIME_MAX).await;
        Ok(Exit::Done)
    };
    // Completion is silent: where nothing can be asked there is nothing to offer.
    let _ = app.client(None, ask);
    paths.retain(|path| !path.split_once('/').is_some_and(|(service, _)| is_standard(service)));
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_offered_only_if_it_is_clear() {
        let names = ["a.A/Get", "b.A/Get", "b.B/Put", "plain"].map(str::to_owned);
        let short = |path: &String| path.rsplit('.').next().unwrap().to_owned();
        let words: Vec<String> = clear(&names, short).into_iter().map(|found| found.word).collect();
        assert_eq!(words, ["B/Put", "plain"]);
    }
}
