//! In a process of its own: what it sets is the whole process's, and so is what it measures.
#![cfg(target_env = "gnu")]

use std::hint::black_box;

/// Bytes that are resident of this process's own.
fn own() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its own memory");
    1024 * line.trim().strip_suffix(" kB").and_then(|number| number.parse::<u64>().ok()).expect("a number of kB")
}

#[test]
fn a_large_buffer_that_was_freed_is_gone_and_the_next_is_not_touched() {
    const SIZE: usize = 512 * 1024;
    figspan_footprint::keep_large_apart();
    // The first that is freed is what moves the threshold.
    drop(black_box(vec![1u8; SIZE]));
    let before = own();
    let (mut full, mut pins) = (Vec::new(), Vec::new());
    for _ in 0..16 {
        full.push(black_box(vec![1u8; SIZE]));
        // Behind each something small that stays, so that none ends up at the end of the heap.
        pins.push(black_box(vec![1u8; 2000]));
    }
    assert!(own() - before > 7 * 1024 * 1024);
    drop(full);
    let empty: Vec<Vec<u8>> = (0..16).map(|_| black_box(vec![0u8; SIZE])).collect();
    let more = own().saturating_sub(before);
    assert!(more < 1024 * 1024, "{more} bytes more are resident");
    drop((empty, pins));
}
