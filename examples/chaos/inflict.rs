//! Making a fault and ending it.

use super::clocks;
use super::crowds::{self, Crowd};
use super::faults::Fault;
use super::furnish;
use super::mode::Mode;
use super::notes::Notes;
use super::site::{Part, Site};
use super::stores::done;
use super::{Outcome, http};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use std::process::Command;

/// A fault that was made, and what ends it.
pub(crate) struct Made {
    pub(crate) fault: Fault,
    pub(crate) gateways: Vec<usize>,
    crowd: Option<Crowd>,
    /// Descriptors that each process might have before.
    files: Vec<(u32, String)>,
}

/// By how much a clock is set: ahead or back, in seconds.
const CLOCK_STEPS: [&str; 2] = ["+20\n", "-20\n"];
/// The file that fills a disk.
const FILLER: &str = "disk/filler";

/// The part meant, at this gateway.
fn at(part: Part, gateway: usize) -> Part {
    match part {
        Part::Gateway(_) => Part::Gateway(gateway),
        Part::Relay(_) => Part::Relay(gateway),
        Part::Redis | Part::Postgres | Part::Finch | Part::Recorder => part,
    }
}

/// Makes it.
pub(crate) async fn make(
    site: &Site,
    notes: &Notes,
    fault: Fault,
    gateways: Vec<usize>,
    luck: u64,
) -> Outcome<Made> {
    if fault.excuses() {
        gateways.iter().for_each(|gateway| notes.excuse(*gateway));
    }
    let first = gateways.first().copied().unwrap_or_default();
    let mut made = Made { fault, gateways, crowd: None, files: Vec::new() };
    match fault {
        Fault::Kill(part) => {
            if part == Part::Redis {
                site.redis().forget();
            }
            site.kill(at(part, first));
        }
        Fault::RedisOld => drop(site.redis().ask("SAVE").await?),
        Fault::Freeze(part) => site.signal(at(part, first), Signal::SIGSTOP),
        Fault::Link(link, mode) => made.gateways.iter().for_each(|gateway| site.order(*gateway, link, mode)),
        Fault::RedisFull => drop(site.redis().ask("CONFIG SET maxmemory 1").await?),
        Fault::SlowClients => made.crowd = Some(crowds::slow(site)),
        Fault::Strangers => made.crowd = Some(crowds::strangers(site)),
        Fault::IdleConnections => made.crowd = Some(crowds::idle(site)),
        Fault::Files => {
            for pid in made.gateways.iter().filter_map(|gateway| site.pid(Part::Gateway(*gateway))) {
                let open = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(64, Iterator::count);
                made.files.push((pid, limit_files(pid, &(open + 2).to_string())?));
            }
        }
        Fault::Disk => fill(site)?,
        Fault::Clock => site.set_clock(CLOCK_STEPS[(luck % 2) as usize])?,
        Fault::Reload => reload(site, "debug")?,
        Fault::BadSettings => {
            for gateway in &made.gateways {
                std::fs::write(site.home(*gateway).join("perch.toml"), "[limits]\nwindow = \"never\"\n")?;
                site.signal(Part::Gateway(*gateway), Signal::SIGHUP);
            }
        }
    }
    Ok(made)
}

/// Ends it: what was killed is there again, what was bad is good.
pub(crate) async fn end(site: &Site, notes: &Notes, made: Made, ids: usize) -> Outcome<()> {
    let first = made.gateways.first().copied().unwrap_or_default();
    match made.fault {
        Fault::Kill(part) => {
            site.up(at(part, first)).await?;
            if part == Part::Finch {
                burn_ids(site, ids).await?;
            }
        }
        Fault::RedisOld => {
            site.kill(Part::Redis);
            site.up(Part::Redis).await?;
        }
        Fault::Freeze(part) => site.signal(at(part, first), Signal::SIGCONT),
        Fault::Link(link, _) => {
            made.gateways.iter().for_each(|gateway| site.order(*gateway, link, Mode::Pass))
        }
        Fault::RedisFull => drop(site.redis().ask("CONFIG SET maxmemory 0").await?),
        Fault::SlowClients | Fault::Strangers | Fault::IdleConnections => drop(made.crowd),
        Fault::Files => {
            for (pid, before) in made.files {
                limit_files(pid, &before)?;
            }
        }
        Fault::Disk => std::fs::remove_file(site.home(0).join(FILLER))?,
        Fault::Clock => site.set_clock(clocks::TRUE)?,
        Fault::Reload | Fault::BadSettings => reload(site, "info")?,
    }
    if made.fault.excuses() {
        made.gateways.iter().for_each(|gateway| notes.expect_again(*gateway));
    }
    Ok(())
}

/// Sets how many files a process may open, and tells how many it might before.
fn limit_files(pid: u32, files: &str) -> Outcome<String> {
    let pid = pid.to_string();
    let told = done(Command::new("prlimit").args([
        "--pid",
        &pid,
        "--nofile",
        "--raw",
        "--noheadings",
        "-o",
        "SOFT",
    ]))?;
    done(Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:")]))?;
    Ok(String::from_utf8_lossy(&told.stdout).trim().to_owned())
}

/// Leaves not a byte on the small disk.
fn fill(site: &Site) -> Outcome<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(site.home(0).join(FILLER))?;
    let piece = vec![0; 4096];
    while file.write_all(&piece).is_ok() {}
    Ok(())
}

fn reload(site: &Site, level: &str) -> Outcome<()> {
    for gateway in 0..site.arm.gateways() {
        let text = furnish::settings(site.arm, &site.doors, gateway, level, site.beyond)?;
        std::fs::write(site.home(gateway).join("perch.toml"), text)?;
        site.signal(Part::Gateway(gateway), Signal::SIGHUP);
    }
    Ok(())
}

/// A simulator that starts again counts the ids of its codes from one; those it gave before were spent, and must not come again.
async fn burn_ids(site: &Site, ids: usize) -> Outcome<()> {
    let pair = STANDARD.encode(format!("sim-client:{}", furnish::CLIENT_SECRET));
    let basic = format!("Basic {pair}");
    let headers = [("authorization", basic.as_str())];
    let body = "{\"customer_id\":\"nobody\",\"customer_name\":\"nobody\",\"products\":[\"company\"]}";
    for _ in 0..ids {
        http::json(site.doors.finch, "POST", "/connect/sessions", &headers, body).await?;
    }
    Ok(())
}
