"""Which customer has which plan, in which periods."""
