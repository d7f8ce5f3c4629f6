"""Bills a stranger's usage file: one command, one small mapping, the same path as live usage."""
