"""Features, and what customers may do with them."""
