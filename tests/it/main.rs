//! What perch promises, tried from outside: one binary, one file per behaviour.

#![allow(unreachable_pub)] // nothing outside sees a test binary

mod commands;
mod endpoints;
mod import;
mod ledger;
mod path;
mod process;
mod sim;
mod startup;
mod support;
mod vault;
