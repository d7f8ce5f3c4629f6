"""Void and reissue, and write-off."""
