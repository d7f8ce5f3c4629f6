"""Plans, their versions and prices, and the prices in force for a customer."""
