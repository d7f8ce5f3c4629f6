"""Assets: units of value with a code and a scale that never change."""
