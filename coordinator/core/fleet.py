"""Workers that come, drain, fall silent and go."""

from __future__ import annotations

import heapq

from coordinator.core.commands import DropWorker
from coordinator.core.events import WorkerDraining, WorkerHeard, WorkerJoined, WorkerLost
from coordinator.core.leasing import release_lease
from coordinator.core.roster import Device, Worker, fleet_rate
from coordinator.core.state import Outbox, State

#: A worker that is silent for this long is taken for lost.
SILENCE_LIMIT_SECONDS = 15.0


def join(state: State, out: Outbox, event: WorkerJoined) -> None:
    if event.worker_id in state.workers:
        _forget(state, event.worker_id)
    devices = {}
    for offer in event.devices:
        devices[offer.info.device_id] = Device(offer, event.worker_id, state.next_device)
        state.next_device += 1
    state.workers[event.worker_id] = Worker(
        event.worker_id, event.name, event.version, connected_at=event.now, last_heard=event.now, devices=devices
    )
    for device in devices.values():
        state.room.file(device, open_to_leases=True)
    measure(state)


def hear(state: State, out: Outbox, event: WorkerHeard) -> None:
    """`Machine.handle` noted that the worker lives; there is nothing else to it."""


def drain(state: State, out: Outbox, event: WorkerDraining) -> None:
    worker = state.workers.get(event.worker_id)
    if worker is not None:
        worker.draining = True
        for device in worker.devices.values():
            state.room.file(device, open_to_leases=False)
        measure(state)


def lose(state: State, out: Outbox, event: WorkerLost) -> None:
    _forget(state, event.worker_id)
    measure(state)


def drop_silent(state: State, out: Outbox, now: float) -> None:
    """Take workers for lost that showed no sign of life for too long."""
    silent = [worker for worker in state.workers.values() if now - worker.last_heard > SILENCE_LIMIT_SECONDS]
    for worker in silent:
        _forget(state, worker.worker_id)
        out.command(DropWorker(worker.worker_id, f"no sign of life for {SILENCE_LIMIT_SECONDS:.0f} s"))


def wake_rested(state: State) -> None:
    """Let devices take leases again whose rest is over."""
    while state.resting and state.resting[0][0] <= state.now:
        _, worker_id, device_id = heapq.heappop(state.resting)
        worker = state.workers.get(worker_id)
        device = worker.devices.get(device_id) if worker is not None else None
        if worker is not None and device is not None:
            state.room.file(device, open_to_leases=not worker.draining and device.resting_until <= state.now)


def measure(state: State) -> None:
    """Add up what the fleet can do now."""
    state.fleet_rate = fleet_rate(state.workers)


def _forget(state: State, worker_id: str) -> None:
    worker = state.workers.pop(worker_id, None)
    if worker is not None:
        for device in worker.devices.values():
            state.room.file(device, open_to_leases=False)
            for lease_id in list(device.leases):
                release_lease(state, lease_id)
