//! The daemon on the VM. See the library of the same name.

fn main() -> std::process::ExitCode {
    figspan_agent::command::main()
}
