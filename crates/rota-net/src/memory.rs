//! Memory that was let go goes back to the system, also where nothing happens any more.
//!
//! An allocator keeps of what a thread let go the last page of each length, of up to 4 MiB, and looks at these, and at what waits to be given
//! back, while it is asked for memory: a thread that has nothing to do asks for none.

use std::hint::black_box;

/// So many times it is asked for more than a kilobyte until it looks at what the thread kept (mimalloc).
const UNTIL_IT_LOOKS: usize = 1_000;

/// Has the allocator give back what it keeps of this thread and what the others let go. It takes some of the calls until a page is
/// given back, so it is to be called now and then; it takes some 30 µs.
pub fn give_back() {
    for _ in 0..UNTIL_IT_LOOKS {
        drop(black_box(Vec::<u8>::with_capacity(2_000)));
    }
    // Longer than any page: with it everything that waited long enough goes back.
    drop(black_box(Vec::<u8>::with_capacity(1 << 20)));
}
