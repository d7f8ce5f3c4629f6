"""The rules of taxes: rates, who is taxed how, what it comes to, and ids."""
