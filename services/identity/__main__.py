"""`python -m identity serve|work|run|migrate|check`."""

from chassis.program import main
from identity.app import SERVICE

main(SERVICE)
