//! What perch does, seen from outside its rooms.

mod vault;
