"""Hashing on CPU cores, for hosts without a GPU: the same `hashfleet.engine.HashEngine`, one process per core.

::

    search.py   the hash loop over one range; pure
    lane.py     what runs in each process: a range in, its hits out
    engine.py   `CpuEngine`: starts the lanes, shares every batch out among them, notices when one dies

Knows `hashfleet` only.
"""
