"""Exchange: dated rates between assets, and conversions at them."""
