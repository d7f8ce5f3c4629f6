"""`python -m wallet serve|work|run|migrate|check`."""

from __future__ import annotations

from chassis.program import main
from wallet.app import SERVICE

main(SERVICE)
