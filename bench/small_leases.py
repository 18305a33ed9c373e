"""How many small leases a second a worker gets through, and where its time goes.

::

    python -m bench.small_leases --zeros 3 --seconds 5 [--processes 1] [--wire] [--profile]

One process plays both ends of the stream without a network: the conversation, the device's thread and its engine are
the worker's own, every message is serialized and parsed as on the wire, and a scripted coordinator keeps `IN_HAND`
leases granted. What the scripted coordinator takes is measured on its own and not counted as the worker's. The answer
to "how many on one core" is the CPU time of worker and engine per lease, whatever else this machine does meanwhile.

With --wire a whole worker talks gRPC to the scripted coordinator, which then has a process of its own.
"""

from __future__ import annotations

import asyncio
import cProfile
import itertools
import os
import pstats
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import grpc.aio

from cpu_fallback.engine import CpuEngine
from gpu_worker.bundles import next_message
from gpu_worker.conversation import Conversation, UnansweredHits
from gpu_worker.device_runner import DeviceOut, DeviceRunner, ReadyEngine, Report
from gpu_worker.worker import Worker
from hashfleet.message import lay_out
from hashfleet.rpc.hashfleet.v1 import worker_service_pb2 as pb
from hashfleet.rpc.hashfleet.v1.worker_service_pb2_grpc import (
    WorkerServiceServicer,
    add_WorkerServiceServicer_to_server,
)
from hashfleet.self_test import measure_rate

#: Leases granted and not over, and messages in a bundle at most: as the real coordinator has it.
IN_HAND, BUNDLE = 512, 256
#: A lease holds this many times the hashes that a hit takes on average, as the real coordinator has it.
SPARE = 8
PREFIX = b"5-28BUILD679575NONCE"
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured. CPU seconds are those of all threads of that part."""

    leases: int
    seconds: float
    worker_seconds: float
    engine_seconds: float
    coordinator_seconds: float
    #: Messages of the worker, bundles counted once.
    messages: int

    def lines(self) -> list[str]:
        """For people."""

        def each(seconds: float) -> float:
            return 1e6 * seconds / self.leases

        worker, engine = each(self.worker_seconds), each(self.engine_seconds)
        return [
            f"{self.leases / self.seconds:.0f} leases a second, in {self.messages / self.seconds:.0f} messages",
            f"CPU time per lease: worker {worker:.0f} us, engine's processes {engine:.0f} us, "
            f"scripted coordinator {each(self.coordinator_seconds):.0f} us",
            f"worker and engine on one core: {1e6 / (worker + engine):.0f} leases a second",
        ]


class ScriptedCoordinator:
    """Grants leases of one difficulty for ever and accepts every hit."""

    def __init__(self, device_id: str, zeros: int, max_nonce_digits: int) -> None:
        self._device_id = device_id
        self._zeros = zeros
        self._digits = max_nonce_digits
        self._numbers = itertools.count(1)
        self.ended = 0
        self.messages = 0
        #: CPU seconds spent here.
        self.seconds = 0.0

    def grant(self, leases: int) -> list[pb.ConnectResponse]:
        return [self._lease() for _ in range(leases)]

    def answer(self, data: bytes) -> list[bytes]:
        """Take a message of the worker, and answer with verdicts and as many leases as have ended."""
        began = time.thread_time()
        request = pb.ConnectRequest.FromString(data)
        said = request.bundle.messages if request.WhichOneof("message") == "bundle" else [request]
        answers: list[pb.ConnectResponse] = []
        self.messages += 1
        for one in said:
            kind = one.WhichOneof("message")
            if kind == "hit":
                verdict = pb.HitVerdict(lease_id=one.hit.lease_id, nonce=one.hit.nonce)
                answers.append(pb.ConnectResponse(verdict=verdict))
            elif kind == "lease_ended":
                assert one.lease_ended.reason != pb.END_REASON_FAILED, one.lease_ended.error
                self.ended += 1
                answers.append(self._lease())
        answered = bundles(answers)
        self.seconds += time.thread_time() - began
        return answered

    def _lease(self) -> pb.ConnectResponse:
        number = next(self._numbers)
        space = lay_out(PREFIX, f"{number:014d}", 12, self._digits)
        lease = pb.Lease(
            lease_id=f"l_1234567_{number}",
            device_id=self._device_id,
            job_id=f"pow_{number}",
            prefix=PREFIX,
            extranonce=space.extranonce,
            counter_digits=12,
            filler_digits=space.filler_digits,
            count=SPARE * 16**self._zeros,
            zeros=self._zeros,
            ends_with_hit=True,
        )
        return pb.ConnectResponse(lease=lease)


def bundles(messages: list[pb.ConnectResponse]) -> list[bytes]:
    """Serialized, as few as they may be."""
    return [
        pb.ConnectResponse(bundle=pb.CoordinatorBundle(messages=part)).SerializeToString()
        for part in (messages[at : at + BUNDLE] for at in range(0, len(messages), BUNDLE))
    ]


def measure(zeros: int, max_nonce_digits: int, processes: int, seconds: float) -> Outcome:
    """Work off leases for that long."""
    engine = CpuEngine(processes, niceness=0, compile_first=True)
    reports: deque[Report] = deque()
    reported = threading.Event()

    def report(one: Report) -> None:
        reports.append(one)
        if not reported.is_set():
            reported.set()

    runner = DeviceRunner(ReadyEngine(engine, measure_rate(engine)), report, lambda _: None)
    conversation = Conversation("w_bench", "bench", [runner], UnansweredHits())
    welcome = pb.Welcome(progress_interval_seconds=1.0, silence_limit_seconds=10.0)
    conversation.welcome(pb.ConnectResponse(welcome=welcome))
    coordinator = ScriptedCoordinator(engine.device.device_id, zeros, max_nonce_digits)
    runner.start()
    began, ticked = time.monotonic(), time.monotonic()
    worker_began = time.process_time()
    outbox: deque[pb.ConnectRequest] = deque()
    inbox = bundles(coordinator.grant(IN_HAND))
    children_began = _children_seconds()
    while (now := time.monotonic()) < began + seconds:
        for data in inbox:
            outbox.extend(conversation.receive(pb.ConnectResponse.FromString(data)))
        assert reported.wait(_PATIENCE_SECONDS), "the worker went silent"
        reported.clear()
        for _ in range(len(reports)):
            one = reports.popleft()
            assert not isinstance(one, DeviceOut)
            outbox.extend(conversation.report(one))
        if now - ticked >= conversation.tick_interval:
            outbox.extend(conversation.tick(now))
            ticked = now
        inbox = []
        while outbox:
            inbox += coordinator.answer(next_message(outbox).SerializeToString())
    outcome = Outcome(
        coordinator.ended,
        time.monotonic() - began,
        time.process_time() - worker_began - coordinator.seconds,
        _children_seconds() - children_began,
        coordinator.seconds,
        coordinator.messages,
    )
    runner.stop()
    runner.join(5.0)
    return outcome


class ScriptedServicer(WorkerServiceServicer):
    """The scripted coordinator behind gRPC, for one worker."""

    def __init__(self, zeros: int, max_nonce_digits: int) -> None:
        self.coordinator = ScriptedCoordinator("cpu", zeros, max_nonce_digits)

    async def Connect(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.ConnectResponse]:  # noqa: N802
        yield pb.ConnectResponse(welcome=pb.Welcome(progress_interval_seconds=1.0, silence_limit_seconds=10.0))
        for data in bundles(self.coordinator.grant(IN_HAND)):
            yield pb.ConnectResponse.FromString(data)
        async for request in request_iterator:
            for data in self.coordinator.answer(request.SerializeToString()):
                yield pb.ConnectResponse.FromString(data)


async def serve(zeros: int, max_nonce_digits: int) -> None:
    """Be the scripted coordinator: say the port; at a line of standard input, what was counted; stop at its end."""
    servicer = ScriptedServicer(zeros, max_nonce_digits)
    server = grpc.aio.server()
    add_WorkerServiceServicer_to_server(servicer, server)
    click.echo(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await asyncio.to_thread(sys.stdin.readline)
    coordinator = servicer.coordinator
    click.echo(f"{coordinator.ended} {coordinator.messages} {time.process_time()}")
    await asyncio.to_thread(sys.stdin.readline)
    await server.stop(None)


async def measure_on_the_wire(zeros: int, max_nonce_digits: int, processes: int, seconds: float) -> Outcome:
    """As `measure`, with a whole worker and gRPC."""
    engine = CpuEngine(processes, niceness=0, compile_first=True)
    ready = ReadyEngine(engine, measure_rate(engine))
    arguments = ["--serve", "--zeros", str(zeros), "--max-nonce-digits", str(max_nonce_digits)]
    children_began = _children_seconds()
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.small_leases", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    worker = Worker(f"127.0.0.1:{int(await server.stdout.readline())}", "bench", [ready])
    began, worker_began = time.monotonic(), time.process_time()
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(seconds)
    elapsed, worker_seconds = time.monotonic() - began, time.process_time() - worker_began
    engine_seconds = _children_seconds() - children_began
    server.stdin.write(b"\n")
    ended, messages, coordinator_seconds = (await server.stdout.readline()).split()
    engine_seconds -= float(coordinator_seconds)  # a child too
    worker.drain("the measurement is over")
    await running
    server.stdin.close()
    await server.wait()
    return Outcome(int(ended), elapsed, worker_seconds, engine_seconds, float(coordinator_seconds), int(messages))


def _children_seconds() -> float:
    """CPU seconds of this process's living children, by /proc."""
    ticks = 0
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text(encoding="ascii").split():
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@click.command()
@click.option("--zeros", type=click.IntRange(1, 6), default=3, show_default=True)
@click.option("--max-nonce-digits", type=click.IntRange(26, 200), default=137, show_default=True)
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Of the CPU engine.")
@click.option("--seconds", type=click.FloatRange(0.5, 60), default=3.0, show_default=True)
@click.option("--wire", is_flag=True, help="With gRPC and the coordinator in another process.")
@click.option("--serve", "serves", is_flag=True, hidden=True)
@click.option("--profile", is_flag=True, help="Show where the two threads of the worker spend their time.")
def main(
    zeros: int, max_nonce_digits: int, processes: int, seconds: float, wire: bool, serves: bool, profile: bool
) -> None:
    """Measure the worker's side of small leases."""
    if serves:
        asyncio.run(serve(zeros, max_nonce_digits))
        return
    profiler = cProfile.Profile(time.thread_time)
    if profile:
        profiler.enable()
    if wire:
        outcome = asyncio.run(measure_on_the_wire(zeros, max_nonce_digits, processes, seconds))
    else:
        outcome = measure(zeros, max_nonce_digits, processes, seconds)
    profiler.disable()
    for line in outcome.lines():
        click.echo(line)
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
