//! `rpc call` in JSON-RPC against servers that others wrote: jayson, vscode-jsonrpc, jsonrpcserver.

use crate::interop::peers::script;
use crate::support::{Cmd, bandy};

fn at(url: String) -> impl Fn(&str) -> Cmd {
    move |words| bandy(&format!("{words} -e {url}"))
}

/// What all of them answer alike.
#[track_caller]
fn answers(say: impl Fn(&str) -> Cmd) {
    say("rpc call add '[1,2]'").runs().prints("3\n").silently();
    let hello = say("rpc call hello name=Ada").runs().exits(0).out();
    assert_eq!(hello.replace(' ', ""), "{\"message\":\"Hello,Ada\"}\n");
    let names: String = (0..20).map(|n| format!("{{\"name\":\"{n}\"}}\n")).collect();
    let greetings = say("rpc call hello --each -j4").stdin(names).runs().exits(0).out();
    let expected: String = (0..20).map(|n| format!("{{\"message\":\"Hello,{n}\"}}\n")).collect();
    assert_eq!(greetings.replace(' ', ""), expected);
    say("rpc call buy").runs().exits(66).complains("answered UNKNOWN — out of stock (-32000): {\"left\":");
    say("rpc call nobody").runs().exits(76).complains("(-32601)");
    say("rpc ls").runs().exits(5).complains("it offers no rpc.discover");
    say("rpc ping -n 1").runs().shows("ANSWERED from ");
    say("rpc wait --timeout 20s").runs().exits(0);
    // A deadline is sent along where it can be, and does no harm where it cannot.
    say("rpc call add '[1,2]' --timeout 20s").runs().prints("3\n");
}

#[test]
#[ignore = "needs jayson and vscode-jsonrpc"]
fn jayson_and_vscode_servers_are_called() {
    let mut server = script("jsonrpc_server.cjs").starts();
    answers(at(format!("http://{}?protocol=jsonrpc", server.url)));
    answers(at(format!("jsonrpc+tcp://{}", server.line())));
    let say = at(format!("jsonrpc+tcp://{}?framing=headers", server.line()));
    answers(&say);
    say("rpc call never --timeout 300ms").runs().exits(124);
    bandy("rpc call add -e jsonrpc+tcp://:1?framing=words").runs().exits(2).complains("lines, headers");
}

#[test]
#[ignore = "needs jsonrpcserver"]
fn jsonrpcserver_is_called_over_http_and_udp() {
    let mut server = script("jsonrpc_server.py").starts();
    answers(at(format!("http://{}?protocol=jsonrpc", server.url)));
    let say = at(format!("jsonrpc+udp://{}", server.line()));
    answers(&say);
    // It refuses members that it does not know: a header would be lost, and that is said.
    say("rpc call add '[1,2]' -H x-user=ada").runs().exits(67).complains("(-32600)");
}
