//! stub
use super::{End, exit::Exit};
/// x
#[derive(Debug, clap::Args)]
pub struct Args {}
/// x
pub fn run(_: &Args) -> End {
    Ok(Exit::Done)
}
