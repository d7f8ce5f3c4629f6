"""`python -m metering serve|work|run|migrate|check`."""

from __future__ import annotations

from chassis.program import main
from metering.app import SERVICE

main(SERVICE)
