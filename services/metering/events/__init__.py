"""Events: taken in, counted, charged."""
