"""`tollgate`, the command for people."""
