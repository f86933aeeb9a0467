//! What perch promises, tried from outside: one binary, one file per behaviour.

#![allow(unreachable_pub)] // nothing outside sees a test binary

mod endpoints;
mod evidence;
mod exchange;
mod identity;
mod forward;
mod ledger;
mod limited;
mod path;
mod sdk;
mod process;
mod sim;
mod startup;
mod support;
mod vault;
mod wire;
