"""What services tell each other: appended, relayed, consumed.

`append` writes an outbox row in the transaction of the change; `Relay` carries rows to the Redis
Stream `tollgate:<service>`; `Consumer` hands them to another service's handlers through its inbox.
Delivery is at least once and the inbox makes it once; Redis may be emptied at any time.
"""

from __future__ import annotations

from chassis.consumer import Consumer, Handler, consume_once
from chassis.outbox import Message, Outgoing, append, append_across, append_all, stream_name
from chassis.relay import Relay

__all__ = [
    "Consumer",
    "Handler",
    "Message",
    "Outgoing",
    "Relay",
    "append",
    "append_across",
    "append_all",
    "consume_once",
    "stream_name",
]
