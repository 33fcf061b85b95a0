//! A network namespace with a name, and threads and programs inside it.
//!
//! A socket belongs to the namespace of the thread that made it, and a program to that of the thread that started it: so a test enters
//! for a moment, makes both, and uses them from outside.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::run;

/// A namespace; goes when dropped, once nothing uses it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one, with its loopback up.
    pub fn new(name: &str) -> Self {
        run("ip", &["netns", "add", name]);
        let namespace = Self { name: name.to_owned() };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it can be entered.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// `ip` inside.
    pub fn ip(&self, arguments: &[&str]) -> String {
        run("ip", &[&["-n", &self.name], arguments].concat())
    }

    /// Runs a program inside.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let path = format!("--net={}", self.path());
        run("nsenter", &[&[&path, program], arguments].concat())
    }

    /// Moves the calling thread inside, for good.
    pub fn enter(&self) {
        let file = File::open(self.path()).unwrap_or_else(|error| panic!("{}: {error}", self.path()));
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// What the function makes, made inside.
    pub fn inside<R: Send>(&self, make: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                self.enter();
                make()
            });
            made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}
