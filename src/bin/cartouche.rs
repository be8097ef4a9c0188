fn main() -> std::process::ExitCode {
    cartouche::command::main()
}
