"""Settlement: from charges that are intended to charges that are posted or taken back."""
