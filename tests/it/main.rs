//! Behaviour seen from outside, one file for each.

mod endpoints;
