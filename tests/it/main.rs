//! What perch promises, tried from outside: one binary, one file per behaviour.

mod endpoints;
mod ledger;
mod sim;
mod vault;
