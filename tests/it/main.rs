//! What perch promises, tried from outside: one binary, one file per behaviour.

#![allow(unreachable_pub)] // nothing outside sees a test binary

mod endpoints;
mod forward;
mod ledger;
mod path;
mod sim;
mod support;
mod tls;
mod upstream;
mod vault;
mod wire;
