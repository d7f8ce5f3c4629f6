"""The journal: what moved, and whether everything stored is what the journal says."""
