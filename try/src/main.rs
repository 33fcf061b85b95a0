//! `figspan-try`: see the library.

fn main() -> std::process::ExitCode {
    figspan_try::run(std::env::args_os())
}
