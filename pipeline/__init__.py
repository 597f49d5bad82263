"""Complete builds of Apache CloudStack on several builders, coordinated through a git branch."""
