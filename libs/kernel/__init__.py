"""Pure values that every Tollgate service agrees on. Standard library only."""
