"""`python -m invoicing serve|work|run|migrate|check`."""

from __future__ import annotations

from chassis.program import main
from invoicing.app import SERVICE

main(SERVICE)
