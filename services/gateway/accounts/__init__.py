"""Provider accounts: one merchant login at one provider."""
