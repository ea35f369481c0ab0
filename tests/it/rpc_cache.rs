//! What is kept of servers' schemas: it saves round trips and completes words, and never decides what is called.

use crate::support::{Home, Ran, Running, bandy};

fn schema(package: &str, field: &str) -> String {
    format!(
        "syntax = \"proto3\"; package {package}; service Till {{ rpc Pay(Bill) returns (Bill); }} \
         message Bill {{ string {field} = 1; }}"
    )
}

/// Always at the same place, whatever it serves.
fn serve(home: &Home, schema: &str) -> Running {
    let socket = format!("unix:{}", home.path("till.sock").display());
    let file = home.file("till.proto", schema);
    bandy("rpc serve --echo -l").arg(socket).arg("--proto").arg(file).home(home).starts()
}

fn pay(server: &Running, item: &str) -> Ran {
    bandy("rpc call Till/Pay").arg(item).endpoint(server).runs()
}

fn kept(home: &Home) -> usize {
    std::fs::read_dir(home.path("cache/rpc")).map_or(0, Iterator::count)
}

#[test]
fn a_server_that_has_changed_is_called_by_its_new_schema() {
    let home = Home::new();
    let server = serve(&home, &schema("a", "euro"));
    assert_eq!(kept(&home), 0);
    for _ in 0..2 {
        pay(&server, "euro=5").prints("{\"euro\":\"5\"}\n");
        assert_eq!(kept(&home), 1);
    }
    drop(server);
    // The same field has another name, then the service another package.
    let server = serve(&home, &schema("a", "dollar"));
    pay(&server, "euro=5").exits(2);
    pay(&server, "dollar=5").prints("{\"dollar\":\"5\"}\n");
    drop(server);
    let server = serve(&home, &schema("b", "dollar"));
    for _ in 0..2 {
        pay(&server, "dollar=5").prints("{\"dollar\":\"5\"}\n");
    }
    bandy("rpc ls Till -o %{service}").endpoint(&server).runs().prints("b.Till\n");
    // Now there are two of that name.
    drop(server);
    let both = schema("b", "dollar");
    let other = home.file("other.proto", schema("c", "pound"));
    let socket = format!("unix:{}", home.path("till.sock").display());
    let server = bandy("rpc serve --echo -l")
        .arg(socket)
        .arg("--proto")
        .arg(home.file("till.proto", both))
        .arg("--proto")
        .arg(other)
        .home(&home)
        .starts();
    pay(&server, "dollar=5").exits(5);
}

#[test]
fn what_is_kept_may_be_damaged_or_unwritable() {
    let home = Home::new();
    let server = serve(&home, &schema("a", "euro"));
    pay(&server, "euro=5").exits(0);
    for entry in std::fs::read_dir(home.path("cache/rpc")).unwrap() {
        std::fs::write(entry.unwrap().path(), b"bandy-asked-1\r\n\0\xff\xff\xff").unwrap();
    }
    pay(&server, "euro=5").prints("{\"euro\":\"5\"}\n").silently();
    std::fs::remove_dir_all(home.path("cache")).unwrap();
    home.file("cache", "a file where the directory should be");
    pay(&server, "euro=5").prints("{\"euro\":\"5\"}\n").silently();
}

/// What bash is offered for the last word. On a machine that is too busy that is nothing, by design: then again.
fn offered(home: &Home, words: &str) -> Vec<String> {
    let mut tries = (0..50).map(|_| offered_now(home, words));
    tries.find(|offered| !offered.is_empty()).unwrap_or_default()
}

fn offered_now(home: &Home, words: &str) -> Vec<String> {
    let words: Vec<&str> = words.split(' ').collect();
    let mut command = bandy("--").home(home).env("COMPLETE", "bash").env("_CLAP_IFS", "\n");
    command = command
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    let command = words.into_iter().fold(command, |command, word| command.arg(word));
    command.runs().exits(0).out().lines().map(str::to_owned).collect()
}

#[test]
fn methods_and_services_are_completed() {
    let home = Home::new();
    let server = serve(&home, &schema("a.b", "euro"));
    let url = server.url.clone();
    bandy("rpc ls -o %{method}").endpoint(&server).runs().shows("Pay\n");
    let offered = |verb: &str, word: &str| offered(&home, &format!("bandy rpc {verb} -e {url} {word}"));
    assert_eq!(offered("call", "Ti"), ["Till/Pay"]);
    assert_eq!(offered("call", "a.b"), ["a.b.Till/Pay"]);
    assert_eq!(offered("ls", "T"), ["Till"]);
    assert_eq!(offered("info", "Till/"), ["Till/Pay"]);
    // A server that is slow or gone had the same the last time.
    drop(server);
    assert_eq!(offered("call", "Ti"), ["Till/Pay"]);
}
