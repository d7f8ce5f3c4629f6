"""Usage × price → amount: exact, pure, the same for live, period, preview and simulation."""

from rating.document import parse_price as parse_price
from rating.document import render_price as render_price
from rating.price import Price as Price
