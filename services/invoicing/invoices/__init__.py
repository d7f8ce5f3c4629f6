"""Bills: what is due, and the documents that say so."""
