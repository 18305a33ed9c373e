"""An embedded chain for demos and tests that speaks structsd's own wire protocols.

The production chain client runs unchanged against it: gRPC (structs, auth, tx, cmtservice), CometBFT JSON-RPC
and WebSocket, REST, real transaction bytes, real signatures, the chain's own difficulty rule and error codes. It
behaves like one of the releases v0.16 to v0.22 (`rules.py`), and fails in the ways that networks and nodes fail in, if
it is told to (`faults.py`).

May import `hashfleet` only. Knows no private key; a scenario names addresses.

::

    state.py         values of the chain's store        messages.py     the completions, their bits and responses
    records.py       values -> the chain's protobuf     transactions.py bytes -> checked transaction, signatures
    events.py        typed events as JSON               ante.py         what is checked before a message runs
    changes.py       writes and the events they cause   handlers.py     what a message does
    chain.py         mempool, blocks, indexes           event_query.py  CometBFT's query language
    charter.py       what founding a guild does         rules.py        what differs between releases
    refusal.py       how a message is refused           faults.py       what goes wrong, on demand
    queries.py       structsd's queries and answers     gateway_json.py protobuf as REST prints it
    grpc_server.py   structsd's gRPC                    rpc_server.py   CometBFT's JSON-RPC and WebSocket
    rest_server.py   structsd's REST                    rpc_methods.py  the methods of the RPC
    web_server.py    HTTP under both                    comet_json.py   CometBFT's JSON
    scenario.py      how a chain begins                 state_file.py   a chain on disk
    doors.py         the servers of one node            upgrade.py      what an upgrade does to the state
    node.py          composes all of it
"""
