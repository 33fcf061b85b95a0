//! `figspanctl`, and `kubectl figspan` where the binary is installed as `kubectl-figspan`.

fn main() -> std::process::ExitCode {
    figspan_ctl::run(std::env::args_os())
}
