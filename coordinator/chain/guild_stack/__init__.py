"""The PostgreSQL database of a guild stack: heights and work to read, and an outbox that a signing agent empties.

::

    database        connections: where, how, time limits, what an error means
    indexed_height  whether the index is fresh enough to be believed (pure)
    tables          rows to `Work`, and where view.work has to be doubted (pure)
    queries         the SQL of one reading
    notifications   what a `grass` payload says changed (pure)
    client          a `ChainClient` of it all
    outbox          rows of signer.tx: put in once, followed
    agent_output    what the signing agent wrote into a row (pure)

Source: section 4 of the interface notes (structs-pg of February to September 2026).
"""
