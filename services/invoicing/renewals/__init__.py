"""The next term of subscriptions that renew at other prices."""
