"""Parking: events that no meter or price can take yet."""
