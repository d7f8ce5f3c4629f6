"""CEL, parsed by its library and evaluated in exact numbers."""
