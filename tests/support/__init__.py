"""Servers, databases and running services for the tests."""
