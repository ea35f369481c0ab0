//! `bandy log config`: settings of a topic, shown and changed one by one.

use serde::Serialize;

use super::complete;
use super::connect::Log;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::errors::near_miss;
use crate::cli::exit::{Exit, Failure};
use crate::log::client::{Cluster, admin};
use crate::log::wire::api::ConfigSource;
use crate::log::wire::api::describe_configs::DescribeConfigsResourceResult;
use crate::output::{Column, Format};
use crate::shutdown::Shutdown;

/// Arguments of `log config`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log config orders                            all settings, and where they come from
  bandy log config orders retention.ms               its value
  bandy log config orders retention.ms=86400000 cleanup.policy=compact,delete
  bandy log config orders --unset retention.ms       back to the broker's default
  bandy log config orders max.message.bytes=x --dry-run

Settings that are not named stay as they are.

Exit: 0 shown or changed · 1 refused · 5 no such topic or setting · see 'bandy help exit-codes'")]
pub struct Args {
    /// The topic
    #[arg(add = completions::remote(complete::topics))]
    pub topic: String,
    /// NAME shows a setting, NAME=VALUE changes it
    #[arg(value_name = "SETTING")]
    pub settings: Vec<String>,
    /// Back to the broker's default (repeatable)
    #[arg(long, value_name = "NAME")]
    pub unset: Vec<String>,
    /// Only let the broker check the changes
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The endpoint's; no such topic or setting; the broker refuses a value.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let named: Vec<&str> =
            args.settings.iter().filter(|it| !it.contains('=')).map(String::as_str).collect();
        let mut changes: Vec<(String, Option<String>)> = Vec::new();
        let set = args.settings.iter().filter_map(|it| it.split_once('='));
        changes.extend(set.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))));
        changes.extend(args.unset.iter().map(|name| (name.clone(), None)));
        if !named.is_empty() && !changes.is_empty() {
            let text = format!("'{}' shows a setting, and others are to be changed", named[0]);
            return Err(Failure::new(Exit::Usage, text).tip("one or the other: NAME, or NAME=VALUE").into());
        }
        let log = Log::resolve(&args.connect, app, "config")?;
        let shutdown = Shutdown::new();
        let cluster = log.open(&shutdown).await?;
        let configs = settings(&args.topic, &log, &cluster).await?;
        match changes.is_empty() {
            true => show(&args.topic, &named, &configs, app)?,
            false => change(args, &changes, &configs, (app, &log, &cluster)).await?,
        }
        Ok(Exit::Done)
    })
}

/// All settings of a topic by their names.
///
/// # Errors
/// No such topic; not to be seen.
pub async fn settings(
    topic: &str,
    log: &Log,
    cluster: &Cluster,
) -> Result<Vec<DescribeConfigsResourceResult>, Failure> {
    if let Err(error) = cluster.topic(topic, false).await {
        return Err(log.about(&error, topic, cluster).await);
    }
    let mut configs = admin::topic_configs(cluster, topic).await.map_err(|error| log.failure(&error))?;
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(configs)
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
    topic: &str,
    named: &[&str],
    configs: &[DescribeConfigsResourceResult],
    app: &App,
) -> anyhow::Result<()> {
    for name in named {
        find(topic, name, configs)?;
    }
    if let ([name], Format::Auto | Format::Value) = (named, &app.printer.look().format) {
        app.printer.line(find(topic, name, configs)?.value.as_deref().unwrap_or_default())?;
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
    topic: &str,
    name: &str,
    configs: &'a [DescribeConfigsResourceResult],
) -> Result<&'a DescribeConfigsResourceResult, Failure> {
    configs.iter().find(|it| it.name == name).ok_or_else(|| {
        let failure = Failure::new(Exit::NotFound, format!("topic '{topic}' has no setting '{name}'"));
        match near_miss(name, configs.iter().map(|it| it.name.as_str())) {
            Some(near) => failure.tip(format!("did you mean '{near}'?")),
            None => failure.tip(format!("see all of them: bandy log config {topic}")),
        }
    })
}

async fn change(
    args: &Args,
    changes: &[(String, Option<String>)],
    configs: &[DescribeConfigsResourceResult],
    (app, log, cluster): (&App, &Log, &Cluster),
) -> Result<(), Failure> {
    for (name, _) in changes {
        find(&args.topic, name, configs)?;
    }
    admin::alter_topic(cluster, &args.topic, changes, args.dry_run).await.map_err(|it| log.failure(&it))?;
    for (name, value) in changes {
        let old = find(&args.topic, name, configs)?.value.as_deref().unwrap_or("-");
        let new = value.as_deref().unwrap_or("the broker's default");
        let would = if args.dry_run { "would become " } else { "" };
        app.printer.status(&format!("{name} of {}: {old} → {would}{new}", args.topic));
    }
    Ok(())
}
