"""The state machine of the fleet: typed events in, typed commands out. No I/O, no clock, no asyncio, no randomness.

`machine.Machine` is the whole of it; the other modules are the rules it applies. `coordinator.service` is the shell
that feeds it events and carries out its commands.
"""
