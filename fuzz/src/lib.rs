//! Coverage-guided fuzzing, by hand or by a machine with time to spare; CI runs the same properties from fixed seeds as
//! proptests in the crates.
//!
//! ```sh
//! cargo install cargo-fuzz                                             # once; and a nightly toolchain
//! cargo +nightly fuzz run log_record        -- -max_total_time=600
//! cargo +nightly fuzz run log_segment       -- -max_total_time=600
//! cargo +nightly fuzz run log_recovery      -- -max_total_time=600
//! cargo +nightly fuzz run log_salvage       -- -max_total_time=600
//! cargo +nightly fuzz run beanstalkd_parser -- -max_total_time=600 -dict=beanstalkd.dict
//! cargo +nightly fuzz run filter            -- -max_total_time=600 -dict=filter.dict
//! cargo +nightly fuzz run cron              -- -max_total_time=600 -dict=cron.dict
//! ```
//!
//! What it finds goes to `artifacts/`; `cargo +nightly fuzz run TARGET artifacts/TARGET/FILE` shows it again. Mend it,
//! and keep the case as a test of the crate.
