//! Published tables beside ours.

use serde::Serialize;

use super::Args;
use crate::cli::app::App;
use crate::cli::exit::Exit;
use crate::gossip::simulate::DEMERS;
use crate::output::Column;

#[derive(Serialize)]
struct PaperRow {
    table: u32,
    of: &'static str,
    k: u32,
    residue_paper: f64,
    residue: f64,
    traffic_paper: f64,
    traffic: f64,
    last_paper: f64,
    last: f64,
}

pub(super) fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let columns = [
        Column::right("table"),
        Column::left("of"),
        Column::right("k"),
        Column::right("residue_paper"),
        Column::right("residue"),
        Column::right("traffic_paper"),
        Column::right("traffic"),
        Column::right("last_paper"),
        Column::right("last"),
    ];
    let round = |value: f64, digits: i32| (value * 10f64.powi(digits)).round() / 10f64.powi(digits);
    let runs = u32::try_from(args.runs)?;
    let mut list = app.printer.list(&columns);
    for published in DEMERS {
        let ours = published.ours(runs, args.stage.seed);
        list.row(&PaperRow {
            table: published.table,
            of: published.title(),
            k: published.k,
            residue_paper: published.residue,
            residue: round(ours.residue, 6),
            traffic_paper: published.traffic,
            traffic: round(ours.traffic, 3),
            last_paper: published.last_delay,
            last: round(ours.last_delay, 2),
        })?;
    }
    list.finish()?;
    app.printer.status(&format!("Demers et al. 1987, 1,000 nodes; ours are means of {runs} runs"));
    Ok(Exit::Done)
}
