//! Real peers: each test names what it needs and fails without it. `.ci/run` installs them.

mod amqp_client;
mod gossip;
mod gossip_complaints;
mod gossip_label;
mod gossip_refusals;
mod grpc_go;
mod json_rpc;
mod kafka;
mod log_broker;
mod mq_admin;
mod mq_broker;
mod mq_commands;
mod mq_look;
mod peers;
mod rabbitmq;
mod reflection;
mod registry;
mod rpc_client;
mod rpc_serve;
mod schema;
mod tls;
