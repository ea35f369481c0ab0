//! The same arguments for commands that look at several servers at once: `-e` may be said again.

use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::ConnectArgs;

/// [`ConnectArgs`] with any number of endpoints.
#[derive(Debug, Clone, Default)]
pub struct SeveralConnectArgs {
    /// Those that were named, in their order.
    pub endpoints: Vec<String>,
    /// Everything else; its endpoint is the first.
    pub connect: ConnectArgs,
}

impl SeveralConnectArgs {
    /// The arguments for one of the endpoints, or, if none was named, for what the environment says.
    pub fn each(&self) -> Vec<ConnectArgs> {
        if self.endpoints.is_empty() {
            return vec![self.connect.clone()];
        }
        let one =
            |endpoint: &String| ConnectArgs { endpoint: Some(endpoint.clone()), ..self.connect.clone() };
        self.endpoints.iter().map(one).collect()
    }
}

impl FromArgMatches for SeveralConnectArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let endpoints = matches.get_many::<String>("endpoint").unwrap_or_default().cloned().collect();
        Ok(Self { endpoints, connect: ConnectArgs::from_arg_matches(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SeveralConnectArgs {
    fn augment_args(command: Command) -> Command {
        ConnectArgs::augment_args(command).mut_arg("endpoint", |arg| {
            arg.action(ArgAction::Append)
                .help("Which server: a URL, HOST:PORT or :PORT; see 'bandy help endpoints' (repeatable)")
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
