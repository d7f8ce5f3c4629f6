"""Usage × price → amount: exact, pure, the same for live, period, preview and simulation."""

from rating.advance import advance as advance
from rating.breakdown import rate as rate
from rating.components import Breakdown as Breakdown
from rating.components import Component as Component
from rating.document import parse_price as parse_price
from rating.document import render_price as render_price
from rating.exact import exact as exact
from rating.exact import number_text as number_text
from rating.headroom import max_quantity as max_quantity
from rating.margin import Closing as Closing
from rating.margin import charge as charge
from rating.margin import close as close
from rating.margin import cost as cost
from rating.margin import cost_between as cost_between
from rating.margin import minimum_due as minimum_due
from rating.price import Price as Price
from rating.record import parse_state as parse_state
from rating.record import render_state as render_state
from rating.record import state_digest as state_digest
from rating.request import answer as answer
from rating.request import render_breakdown as render_breakdown
from rating.state import Level as Level
from rating.state import State as State
from rating.state import UnpricedUsage as UnpricedUsage
from rating.state import Usage as Usage
from rating.tab import Tab as Tab
