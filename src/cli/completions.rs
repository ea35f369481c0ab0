//! Completion: the only module that knows `clap_complete`, whose dynamic part is still unstable.

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::endpoint::{Pillar, Scheme};
use super::settings::{Config, Environment, Home};

/// Completes the beginning of an endpoint.
pub fn endpoints() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &std::ffi::OsStr| {
        let current = current.to_string_lossy();
        let schemes = Scheme::prefixes(Pillar::Rpc);
        schemes.filter(|scheme| scheme.starts_with(&*current)).map(CompletionCandidate::new).collect()
    })
}

/// Completes the name of a context.
pub fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &std::ffi::OsStr| {
        let current = current.to_string_lossy();
        // Completion is silent: without a readable file there is nothing to offer.
        let config = Config::load(&Home::new(&Environment::Process).config).unwrap_or_default();
        let names = config.contexts.into_keys();
        names.filter(|name| name.starts_with(&*current)).map(CompletionCandidate::new).collect()
    })
}
