"""From a found proof to exactly one transaction in the chain.

`lane` runs the ledger of one signing account against the chain; `decision` holds what it decides, as pure functions;
`outcome` what it takes and what it tells; `attempt` a row of the ledger; `transaction`, `keys` and `verdict` the
bytes, the signature and the meaning of a node's answer.
"""
