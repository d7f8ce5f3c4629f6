"""Who runs billing, which programs act for them, and what time it is for those who test."""
