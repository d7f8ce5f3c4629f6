"""What a change of a subscription would cost."""
