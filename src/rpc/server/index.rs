//! What a person sees who opens the server in a browser: the methods, one per line.

use std::fmt::Write as _;

use crate::rpc::catalog::Catalog;
use crate::rpc::{Kind, stats};

/// The methods as text, with an example of a call.
pub fn text(catalog: &Catalog, authority: &str) -> String {
    let methods = catalog.routes().map(|route| &route.method);
    let mut methods: Vec<_> = methods.filter(|method| method.service() != stats::SERVICE).collect();
    methods.sort_by(|a, b| a.path.cmp(&b.path));
    let mut out = String::from("bandy rpc: gRPC, gRPC-Web, Connect and JSON-RPC on this port\n\n");
    for method in &methods {
        let stream = |streams| if streams { "stream " } else { "" };
        let _ = writeln!(
            out,
            "{}({}{}) returns ({}{})",
            method.path,
            stream(method.kind.client_streams()),
            method.input.full_name(),
            stream(method.kind.server_streams()),
            method.output.full_name(),
        );
    }
    let callable =
        methods.iter().find(|method| method.kind == Kind::Unary && !method.path.starts_with("grpc."));
    if let Some(method) = callable {
        let _ = writeln!(
            out,
            "\ntry: curl -H 'content-type: application/json' -d '{{}}' http://{authority}/{}",
            method.path
        );
    }
    out
}
