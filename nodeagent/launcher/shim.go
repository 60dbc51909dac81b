package launcher

// ShimMain is the hidden subcommand "shim SPEC": it starts the command that the
// spec file describes, outlives the agent, and writes down how the command
// ended. It returns the exit code of the shim itself.
func ShimMain(args []string) int { return 2 }
