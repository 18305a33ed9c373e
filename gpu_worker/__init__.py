"""The worker process on a GPU host: devices, their engines, and the stream to the coordinator.

From the wire to the device: `worker` (its life) -> `session` (one connection) -> `conversation` (what is said, without
I/O) -> `device_runner` (one thread per device, over the `lease` queue) -> an engine. A GPU's engine stands behind
`device_process`, in a process of its own. Knows `hashfleet` and `kernels` only; `hashfleet/cli/engines.py` composes it
with the CPU fallback.
"""
