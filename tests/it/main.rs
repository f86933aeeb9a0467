//! What perch promises, tried from outside: one binary, one file per behaviour.

#![allow(unreachable_pub)] // nothing outside sees a test binary

mod endpoints;
mod evidence;
mod exchange;
mod identity;
mod ledger;
mod limited;
mod path;
mod sdk;
mod sim;
mod support;
mod vault;
