//! One binary for all behaviour: one file each.

mod sim;
