"""What documents say on paper, and in which language."""
