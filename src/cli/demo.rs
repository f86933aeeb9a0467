//! stub
use super::exit::Failure;
/// x
#[derive(Debug, clap::Args)]
pub struct Args {}
/// x
pub fn run(_: &Args) -> Result<(), Failure> {
    Ok(())
}
