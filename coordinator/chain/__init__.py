"""The chain as the coordinator sees it: one protocol, and the production client that fulfils it.

May know core's types and `hashfleet`; knows no key, no job, no store and no door.

::

    client.py           the ChainClient protocol and its values
    structsd.py         StructsdClient: which queries make one reading, the feed of blocks, transactions
    object_state.py     query answers -> Work, WorkGone, WorkPaused or BadChainAnswer; pure
    permissions.py      which bits a signing key needs; pure
    versions.py         what differs between chain versions; pure
    node_connection.py  one gRPC channel: time limits, and status codes -> our errors
    cometbft.py         CometBFT's WebSocket feed, /status and /block_results
    block_events.py     events of a block -> the objects that it changed; pure
"""
