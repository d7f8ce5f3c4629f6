"""The main job on one screen: a month of LLM usage, gated, charged, invoiced and collected."""
