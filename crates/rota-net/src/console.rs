//! What the server says to whoever runs it. Where nobody reads that any more the line is lost, and the server goes on: the standard library's
//! macros end the process then.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Says it on standard output.
pub fn say(line: Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Says it on standard error.
pub fn note(line: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// As `println!`, of a server: see [`console`](crate::console).
#[macro_export]
macro_rules! say {
    ($($line:tt)*) => { $crate::console::say(format_args!($($line)*)) };
}

/// As `eprintln!`, of a server: see [`console`](crate::console).
#[macro_export]
macro_rules! note {
    ($($line:tt)*) => { $crate::console::note(format_args!($($line)*)) };
}
