"""An embedded chain for demos and tests that speaks structsd's own wire protocols.

The production chain client runs unchanged against it: gRPC (structs, auth, tx, cmtservice), CometBFT JSON-RPC
and WebSocket, real transaction bytes, real signatures, the chain's own difficulty rule and error codes. It behaves
like v0.20 (ore clocks on structs, a raid clock that runs only while the defender is vulnerable) or, if asked to, with
the ore clocks of v0.21: one for all rigs of a planet and one for its refineries, standing still during a raid.

May import `hashfleet` only. Knows no private key; a scenario names addresses.

::

    state.py         values of the chain's store        messages.py     the completions, their bits and responses
    records.py       values -> the chain's protobuf     transactions.py bytes -> checked transaction, signatures
    events.py        typed events as JSON               ante.py         what is checked before a message runs
    changes.py       writes and the events they cause   handlers.py     what a message does
    chain.py         mempool, blocks, indexes           event_query.py  CometBFT's query language
    grpc_server.py   structsd's gRPC                    rpc_server.py   CometBFT's JSON-RPC and WebSocket
    scenario.py      how a chain begins                 state_file.py   a chain on disk
    node.py          composes all of it
"""
