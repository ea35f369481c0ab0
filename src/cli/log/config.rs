//! `bandy log config`: settings of a topic or a broker, shown and changed one by one.

use std::str::FromStr;

use serde::Serialize;

use super::complete;
use super::connect::Log;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::errors::near_miss;
use crate::cli::exit::{Exit, Failure};
use crate::log::client::admin::Configured;
use crate::log::client::{Cluster, admin};
use crate::log::wire::api::ConfigSource;
use crate::log::wire::api::describe_configs::DescribeConfigsResourceResult;
use crate::output::{Column, Format};
use crate::shutdown::Shutdown;

/// Arguments of `log config`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log config orders                               # all settings, and where they come from
  bandy log config orders retention.ms                  # its value
  bandy log config orders retention.ms=86400000 cleanup.policy=compact,delete
  bandy log config orders --unset retention.ms          # back to the broker's default
  bandy log config orders max.message.bytes=x --dry-run
  bandy log config --broker 1 log.retention.ms=3600000  # for all topics that are not set otherwise
  bandy log config --broker all                         # what is set for all brokers

Settings that are not named stay as they are.

Exit: 0 shown or changed · 1 refused · 5 no such topic or setting · see 'bandy help exit-codes'")]
pub struct Args {
    /// The topic
    #[arg(add = completions::remote(complete::topics), required_unless_present = "broker")]
    pub topic: Option<String>,
    /// NAME shows a setting, NAME=VALUE changes it
    #[arg(value_name = "SETTING")]
    pub settings: Vec<String>,
    /// Settings of a broker in place of a topic's; 'all' is what counts for every broker
    #[arg(long, value_name = "ID")]
    pub broker: Option<Whose>,
    /// Back to the broker's default (repeatable)
    #[arg(long, value_name = "NAME")]
    pub unset: Vec<String>,
    /// Only let the broker check the changes
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Which broker's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Those of this one.
    One(i32),
    /// Those of all.
    All,
}

impl FromStr for Whose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(id)) if id >= 0 => Ok(Self::One(id)),
            _ => Err("a broker is a number, as 'bandy log ping -o json' shows it, or all".to_owned()),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// The endpoint's; no such topic, broker or setting; the broker refuses a value.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let mut words: Vec<&str> = args.settings.iter().map(String::as_str).collect();
    let of = match (&args.broker, &args.topic) {
        (None, topic) => {
            let name = super::topic::parse_name(topic.as_deref().unwrap_or_default());
            Configured::Topic(name.map_err(|why| Failure::new(Exit::Usage, why))?)
        }
        (Some(whose), first) => {
            // What comes first is no topic then.
            words.splice(..0, first.as_deref());
            match whose {
                Whose::One(id) => Configured::Broker(*id),
                Whose::All => Configured::AllBrokers,
            }
        }
    };
    app.client(args.connect.timeout, async {
        let named: Vec<&str> = words.iter().copied().filter(|it| !it.contains('=')).collect();
        let mut changes: Vec<(String, Option<String>)> = Vec::new();
        let set = words.iter().filter_map(|it| it.split_once('='));
        changes.extend(set.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))));
        changes.extend(args.unset.iter().map(|name| (name.clone(), None)));
        if !named.is_empty() && !changes.is_empty() {
            let text = format!("'{}' shows a setting, and others are to be changed", named[0]);
            return Err(Failure::new(Exit::Usage, text).tip("one or the other: NAME, or NAME=VALUE").into());
        }
        let log = Log::resolve(&args.connect, app, "config")?;
        let shutdown = Shutdown::new();
        let cluster = log.open(&shutdown).await?;
        let configs = settings(&of, &log, &cluster).await?;
        match changes.is_empty() {
            true => show(&of, &named, &configs, app)?,
            false => change(&of, &changes, args.dry_run, &configs, (app, &log, &cluster)).await?,
        }
        Ok(Exit::Done)
    })
}

/// All settings by their names.
///
/// # Errors
/// No such topic or broker; not to be seen.
pub async fn settings(
    of: &Configured,
    log: &Log,
    cluster: &Cluster,
) -> Result<Vec<DescribeConfigsResourceResult>, Failure> {
    match of {
        Configured::Topic(topic) => {
            if let Err(error) = cluster.topic(topic, false).await {
                return Err(log.about(&error, topic, cluster).await);
            }
        }
        Configured::Broker(id) => {
            cluster.metadata(Some(&[]), false).await.map_err(|error| log.failure(&error))?;
            let known: Vec<i32> = cluster.nodes().iter().map(|node| node.id).collect();
            if !known.contains(id) {
                let text = format!("there is no broker {id}");
                let ids: Vec<String> = known.iter().map(i32::to_string).collect();
                return Err(Failure::new(Exit::NotFound, text).tip(format!("there is: {}", ids.join(", "))));
            }
        }
        Configured::AllBrokers => {}
    }
    let mut configs = admin::configs(cluster, of).await.map_err(|error| log.failure(&error))?;
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(configs)
}

/// As it is named to a person.
fn called(of: &Configured) -> String {
    match of {
        Configured::Topic(name) => format!("topic '{name}'"),
        Configured::Broker(id) => format!("broker {id}"),
        Configured::AllBrokers => "all brokers".to_owned(),
    }
}

#[derive(Serialize)]
struct Setting<'a> {
    name: &'a str,
    value: Option<&'a str>,
    source: String,
}

/// Prints settings: all, or those that are named; the value alone of one.
///
/// # Errors
/// No setting of that name; output that cannot be written.
pub fn show(
    of: &Configured,
    named: &[&str],
    configs: &[DescribeConfigsResourceResult],
    app: &App,
) -> anyhow::Result<()> {
    for name in named {
        find(of, name, configs)?;
    }
    if let ([name], Format::Auto | Format::Value) = (named, &app.printer.look().format) {
        app.printer.line(find(of, name, configs)?.value.as_deref().unwrap_or_default())?;
        return Ok(());
    }
    let columns = [Column::left("name"), Column::left("value"), Column::left("source")];
    let mut list = app.printer.list(&columns);
    for config in configs.iter().filter(|it| named.is_empty() || named.contains(&it.name.as_str())) {
        let source = ConfigSource::from_code(config.config_source);
        list.row(&Setting {
            name: &config.name,
            value: config.value.as_deref(),
            source: source.map_or_else(|| config.config_source.to_string(), |source| source.to_string()),
        })?;
    }
    list.finish()?;
    Ok(())
}

fn find<'a>(
    of: &Configured,
    name: &str,
    configs: &'a [DescribeConfigsResourceResult],
) -> Result<&'a DescribeConfigsResourceResult, Failure> {
    configs.iter().find(|it| it.name == name).ok_or_else(|| {
        let failure = Failure::new(Exit::NotFound, format!("{} has no setting '{name}'", called(of)));
        let place = match of {
            Configured::Topic(name) => name.clone(),
            Configured::Broker(id) => format!("--broker {id}"),
            Configured::AllBrokers => "--broker all".to_owned(),
        };
        match near_miss(name, configs.iter().map(|it| it.name.as_str())) {
            Some(near) => failure.tip(format!("did you mean '{near}'?")),
            None => failure.there(format!("see all of them: bandy log config {place}")),
        }
    })
}

async fn change(
    of: &Configured,
    changes: &[(String, Option<String>)],
    dry: bool,
    configs: &[DescribeConfigsResourceResult],
    (app, log, cluster): (&App, &Log, &Cluster),
) -> Result<(), Failure> {
    // What is not set for all brokers is not told of either, nor is all that one broker may be set to.
    if matches!(of, Configured::Topic(_)) {
        for (name, _) in changes {
            find(of, name, configs)?;
        }
    }
    admin::alter_configs(cluster, of, changes, dry).await.map_err(|it| log.failure(&it))?;
    let whose = match of {
        Configured::Topic(name) => name.clone(),
        other => called(other),
    };
    for (name, value) in changes {
        let old = find(of, name, configs).ok().and_then(|it| it.value.as_deref()).unwrap_or("-");
        let new = value.as_deref().unwrap_or("the default");
        let would = if dry { "would become " } else { "" };
        app.printer.status(&format!("{name} of {whose}: {old} → {would}{new}"));
    }
    Ok(())
}
