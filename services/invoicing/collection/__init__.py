"""Getting the money: payment attempts, dunning, recharges."""
