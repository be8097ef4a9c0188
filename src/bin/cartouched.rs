fn main() -> std::process::ExitCode {
    cartouche::daemon::main()
}
