"""Rate cards: the prices in force for a customer, as invoicing tells them."""
