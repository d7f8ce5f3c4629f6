"""`python -m gateway serve|work|run|migrate|check`."""

from chassis.program import main
from gateway.app import SERVICE

if __name__ == "__main__":
    main(SERVICE)
