"""The rules of events: what one must be, what it falls under, what it costs."""
