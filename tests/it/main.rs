//! Tests through the binary and of the tree itself: one program, a list of modules.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod casts;
mod cli;
mod commands;
mod docs;
mod fuzz;
mod generated;
mod gossip;
mod harness;
mod interop;
mod local;
mod log_broker;
mod log_commands;
mod log_groups;
mod log_schemas;
mod mq_bench;
mod mq_broker;
mod mq_commands;
mod mq_durable;
mod mq_look;
mod rpc_bench;
mod rpc_cache;
mod rpc_client;
mod rpc_compact;
mod rpc_complete;
mod rpc_handlers;
mod rpc_idle;
mod rpc_info;
mod rpc_jsonrpc;
mod rpc_memory;
mod rpc_mistakes;
mod rpc_panic;
mod rpc_peers;
mod rpc_protocols;
mod rpc_reflection;
mod rpc_registry;
mod rpc_serve;
mod rpc_server;
mod rpc_top;
mod rpc_way;
mod storage;
mod support;
mod terminal;
mod tidy;
mod transport;
