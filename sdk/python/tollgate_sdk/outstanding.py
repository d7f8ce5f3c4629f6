"""What was allowed while the gate was away and is not settled yet, by customer and asset."""

from __future__ import annotations

from decimal import Decimal


class Outstanding:
    """Bounds the worth of usage that nobody has charged yet. Lives as long as the client."""

    def __init__(self) -> None:
        self._worth: dict[tuple[str, str], Decimal] = {}

    def of(self, customer_id: str, asset: str) -> Decimal:
        """How much is outstanding."""
        return self._worth.get((customer_id, asset), Decimal(0))

    def take(self, customer_id: str, asset: str, worth: Decimal, limit: Decimal) -> bool:
        """Add to it unless that would pass the limit; answers whether it was added."""
        total = self.of(customer_id, asset) + worth
        if total > limit:
            return False
        self._worth[customer_id, asset] = total
        return True

    def give_back(self, customer_id: str, asset: str, worth: Decimal) -> None:
        """Take off what was added: it was charged, refused, or not used."""
        total = self.of(customer_id, asset) - worth
        if total:
            self._worth[customer_id, asset] = total
        else:
            self._worth.pop((customer_id, asset), None)
