//! Faults that only a kernel can cause, or a clock: each needs strace or faketime, so `tests/run kernel` runs them.

mod clock;
mod disk;
mod kills;
