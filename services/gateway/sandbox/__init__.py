"""The sandbox: a payment provider of Tollgate's own, a program that keeps books over HTTP."""
