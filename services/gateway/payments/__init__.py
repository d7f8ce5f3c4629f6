"""Payment intents: the promise to collect one amount for one document."""
