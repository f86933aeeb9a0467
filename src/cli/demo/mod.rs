//! `perch demo`: what perch is for, in half a minute. A simulated Finch, a gateway with an embedded store
//! in a temporary folder, two customers who connect through the real code exchange, and a small sync.
//! What it prints comes from perch's own access lines and from what the simulator saw.

mod app;
mod place;
mod story;
mod summary;

use super::exit::Failure;
use super::serve::runtime;
use super::signals::Signals;
use crate::app::Gateway;
use crate::config::{self, Environ};
use crate::sim::{Options, Scenario, Sim};
use crate::types::ClientSecret;
use crate::vault::kek;
use app::App;
use indicatif::{ProgressBar, ProgressStyle};
use place::{Lines, Place};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Where the three listen when they stay, unless somebody is there already.
const FINCH_PORT: u16 = 4700;
const PROXY_PORT: u16 = 4600;
const ADMIN_PORT: u16 = 4601;

/// What `perch demo` can be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End when the story is told, instead of leaving everything running until Ctrl-C
    #[arg(long)]
    pub once: bool,
}

/// Runs it.
///
/// # Errors
/// Something did not start, or the story went otherwise than it should.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    runtime()?.block_on(tell(args, out))
}

async fn tell(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let place = Place::new().map_err(|e| Failure::unavailable(format_args!("no temporary folder: {e}")))?;
    let finch = listen(if args.once { 0 } else { FINCH_PORT }).await?;
    let finch_address = finch.local_addr()?;
    let sim = Sim::new(Options {
        client_id: "demo-client".to_owned(),
        client_secret: ClientSecret::new("demo-secret".to_owned()),
        scenario: Scenario::default(),
        ..Options::default()
    });
    let finch_task = tokio::spawn(Arc::clone(&sim).serve(finch, std::future::pending()));
    let lines = Lines::to(&place.file("access.jsonl"))?;
    let gateway = start(&place, finch_address, args.once, lines.clone()).await?;
    let story = story::tell(&App::at(gateway.proxy())?, finch_address, &bar()).await;
    gateway.settle().await;
    let report = App::at(&config::Address::Tcp(finch_address))?.get("/_sim/report").await?.json();
    let ended = summary::print(out, &story, &lines, &report);
    if let (Ok(()), false) = (&ended, args.once) {
        summary::invite(out, &gateway, finch_address, &place)?;
        signals.next().await;
    }
    gateway.stop().await;
    finch_task.abort();
    ended
}

/// The address that was asked for when it is free, else any.
async fn listen(port: u16) -> Result<TcpListener, Failure> {
    let bound = match TcpListener::bind(("127.0.0.1", port)).await {
        Err(_) if port != 0 => TcpListener::bind(("127.0.0.1", 0)).await,
        bound => bound,
    };
    bound.map_err(|e| Failure::unavailable(format_args!("cannot listen: {e}")))
}

async fn start(
    place: &Place,
    finch: std::net::SocketAddr,
    once: bool,
    lines: Lines,
) -> Result<Gateway, Failure> {
    kek::generate(&place.file("perch.key")).map_err(Failure::failed)?;
    let mut ports = [0, 0];
    if !once {
        for (port, wished) in ports.iter_mut().zip([PROXY_PORT, ADMIN_PORT]) {
            // Looked at and let go again: perch binds it itself in a moment.
            *port = listen(wished).await?.local_addr()?.port();
        }
    }
    let toml = format!(
        "[finch]\nbase_url = \"http://{finch}\"\nenvironment = \"sandbox\"\nclient_id = \"demo-client\"\n\
         client_secret = \"env:DEMO_SECRET\"\n[listen]\nproxy = \"127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\n\
         [vault]\nstore = {:?}\nkey = {:?}\n",
        ports[0],
        ports[1],
        format!("sqlite:{}", place.file("perch.db").display()),
        format!("file:{}", place.file("perch.key").display()),
    );
    let file = place.file("perch.toml");
    std::fs::write(&file, toml)?;
    let env: Environ = [("DEMO_SECRET", "demo-secret")].into_iter().collect();
    let loaded = config::load(Some(&file), &env).map_err(Failure::failed)?;
    Ok(Gateway::start(loaded.config, lines).await?)
}

/// A bar on a terminal, nothing elsewhere.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new(story::STEPS);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
