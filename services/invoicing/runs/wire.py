"""Billing runs as messages."""

from __future__ import annotations

from chassis.wire import render_time
from invoicing.runs.domain import Progress, Run, RunState
from tollgate.invoicing.v1 import invoice_pb2 as pb

STATES = {
    RunState.RUNNING: pb.BILLING_RUN_STATE_RUNNING,
    RunState.DONE: pb.BILLING_RUN_STATE_DONE,
}


def render_run(run: Run) -> pb.BillingRun:
    """A run that has just begun."""
    return pb.BillingRun(
        run_id=str(run.run_id),
        as_of=render_time(run.as_of),
        customers=run.customers,
        state=STATES[run.state],
    )


def render_progress(progress: Progress) -> pb.BillingRun:
    message = render_run(progress.run)
    message.customers_done = progress.customers_done
    message.invoices = progress.invoices
    message.invoices_collected = progress.invoices_collected
    for fault in progress.faults:
        message.faults.add(customer_id=fault.customer_id, message=fault.message)
    return message
