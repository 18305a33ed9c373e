"""The chain as the coordinator sees it: one protocol, and the production client that fulfils it.

May know core's types and `hashfleet`; knows no key, no job, no store and no door.

::

    client.py           the ChainClient protocol and its values
    failover.py         FailoverClient: several nodes as one, by their health
    endpoint_choice.py  which node is asked first; pure
    structsd.py         StructsdClient: one node
    work_reading.py     the works that structs and fleets pose
    charter_reading.py  the puzzle of founding a guild
    outstanding_work.py all the work that a player has open now
    signer_check.py     whether a signing address may complete a work
    transactions.py     accounts, mempool and included transactions
    planet_clocks.py    the ore clocks of planets, and how a node spells them
    object_reading.py   structs, fleets, planets and players, each by its query
    reading.py          several queries that belong together, all of one height
    node.py             how one node is asked, and whether it is the right one and not behind
    transport.py        the seam to a node: queries, heights told, status codes -> our errors
    queries.py          every query, by its gRPC method and its REST path
    grpc_transport.py   a node over gRPC
    rest_transport.py   a node over REST
    rest_json.py        REST answers -> the messages that gRPC would have brought; pure
    node_facts.py       version and struct types of a node, asked again when they may have changed
    versions.py         what differs between chain versions; pure
    object_state.py     query answers -> Work, WorkGone, WorkPaused or BadChainAnswer; pure
    permissions.py      which bits a signing key needs; pure
    rights.py           what is known of the rights of signing addresses
    block_feed.py       new blocks, pushed or polled, from any number of sources
    cometbft.py         CometBFT's WebSocket feed, /status and /block_results
    block_events.py     events of a block -> the objects that it changed; pure
    guild_stack/        work and heights from the guild stack's PostgreSQL
"""
