//! Real peers: each test names what it needs and fails without it. `.ci/run` installs them.

mod reflection;
mod registry;
mod rpc_serve;
mod schema;
