"""Authorizations after their answer: looked at, extended, increased, called off."""
