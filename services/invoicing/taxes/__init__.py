"""What is taxed how."""
