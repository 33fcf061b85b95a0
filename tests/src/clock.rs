//! A machine whose clock is wrong: a small library that shifts what a program's C library says of the time of day.
//!
//! For programs that are linked dynamically, as those of a build for tests are. The compiler is the one that the build needed anyway.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, time);
    const char *shift = getenv("FIGSPAN_TEST_SHIFT");
    if (!failed && clock == CLOCK_REALTIME && shift) time->tv_sec += atol(shift);
    return failed;
}
"#;

/// A way to start programs whose clock is off.
#[derive(Debug)]
pub struct WrongClock {
    library: PathBuf,
}

impl WrongClock {
    /// Compiles it into a folder.
    pub fn build(folder: &Path) -> Self {
        let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
        std::fs::write(&source, SOURCE).expect("the folder can be written");
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").output();
        let compiled = compiled.expect("a C compiler, which building figspan needs too");
        assert!(compiled.status.success(), "{}", crate::process::text(&compiled));
        Self { library }
    }

    /// Variables for a program whose clock is so many seconds ahead, or behind.
    pub fn off(&self, seconds: i64) -> Vec<(&'static str, OsString)> {
        vec![("LD_PRELOAD", self.library.clone().into()), ("FIGSPAN_TEST_SHIFT", seconds.to_string().into())]
    }
}
