"""Payment service providers as plans, the driver that plays them, and where they are found."""
