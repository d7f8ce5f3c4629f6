"""Previews: what a meter would have counted in events that are stored."""
