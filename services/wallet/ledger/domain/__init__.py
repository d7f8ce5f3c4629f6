"""The ledger's rules: how a batch of items changes the books. No I/O, no clock, no protobuf.

The objects of a batch (`books`) are changed in place while it is decided, since a batch of a
thousand debits on one wallet would otherwise copy it a thousand times; nothing outlives the batch.
"""
