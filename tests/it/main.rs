//! What perch promises, tried from outside: one binary, one file per behaviour.

mod endpoints;
mod ledger;
mod path;
mod sim;
mod support;
mod vault;
