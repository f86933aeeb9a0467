//! What perch promises, tried from outside: one binary, one file per behaviour.

#![allow(unreachable_pub)] // nothing outside sees a test binary

mod amplify;
mod backup;
mod batch;
mod canary;
mod catalogue;
mod commands;
mod crash;
mod deadlines;
mod drift;
mod endpoints;
mod evidence;
mod exchange;
mod fleet;
mod forward;
mod fuzzed;
mod holds;
mod identity;
mod import;
mod join;
mod keys;
mod keys_remote;
mod ledger;
mod limited;
mod notices;
mod path;
mod process;
mod redis;
mod redis_members;
mod resend;
mod restart;
mod retry;
mod sdk;
mod shared;
mod shield;
mod sim;
mod startup;
mod support;
mod tls;
mod twin;
mod upstream;
mod vault;
mod wire;
