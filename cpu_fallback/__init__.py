"""Hashing on CPU cores, for hosts without a GPU: the same `hashfleet.engine.HashEngine`, one process per core.

::

    graph.py           SHA-256 of one space, split into what is per lane, per row and per hash; pure
    simd_ir.py         that graph as LLVM assembly, for vectors of any width; pure
    jit.py             compiled for this CPU, through llvmlite
    kernel_search.py   from ranges of counters to calls of a kernel, and back
    search.py          the hash loop on hashlib, for any space; pure
    searcher.py        which of the two searches a range
    lane.py            what runs in each process: a range in, its hits out
    engine.py          `CpuEngine`: starts the lanes, shares every batch out among them, notices when one dies
    count.py           instructions per hash of the compiled inner loop

Knows `hashfleet` only.
"""
