//! Each rule of `replica` by itself.
