//! The program: `perch`. All of it is in the library.
fn main() {}
