"""Every exception hashfleet raises on purpose.

::

    HashfleetError
     ├── InvalidInput            the caller gave something that cannot be right (also a ValueError)
     ├── EngineError             a device cannot do what it was asked
     │    ├── EngineUnavailable  no driver, no device, or the kernel does not compile here
     │    └── SelfTestFailed     the device computes, but not SHA-256
     ├── ChainError              the chain did not give a usable answer
     │    ├── ChainUnavailable   no answer in time: nothing is known, try again later
     │    ├── BadChainAnswer     an answer that lacks or garbles a field we need
     │    ├── WorkGone           the object will never take this proof (built, destroyed, not found)
     │    └── WorkPaused         the object does not take a proof now, but may later (offline, under raid)
     ├── KeyProblem              a signing key is missing, unreadable or not allowed
     └── CoordinatorError        the coordinator did not do what it was asked
          ├── CoordinatorUnavailable  no coordinator answered at the given address
          ├── JobNotFound        there is no job of this id
          └── JobFinal           the job is over, or a transaction of it may land: it cannot be changed

Messages are one sentence that says what was wrong and what would be right; they never hold a key.
"""

from __future__ import annotations


class HashfleetError(Exception):
    """Base of every error that hashfleet raises on purpose."""


class InvalidInput(HashfleetError, ValueError):
    """The caller gave something that cannot be right; the message says what would be."""


class EngineError(HashfleetError):
    """A hash engine cannot do what it was asked."""


class EngineUnavailable(EngineError):
    """No driver, no device, or the kernel does not compile on this machine."""


class SelfTestFailed(EngineError):
    """The device runs the kernel, but its answers differ from hashlib's."""


class ChainError(HashfleetError):
    """The chain did not give a usable answer."""


class ChainUnavailable(ChainError):
    """No endpoint answered in time; nothing is known about the state of the chain."""


class BadChainAnswer(ChainError):
    """The chain answered, but a field that we need is missing or unreadable."""


class WorkGone(ChainError):
    """The object will never take this proof: built, destroyed, exhausted or unknown."""

    #: Ids of the objects that say so; empty if that is not known.
    depends_on: frozenset[str] = frozenset()


class WorkPaused(ChainError):
    """The object takes no proof now but may later: offline, under raid, fleet not first in the queue."""

    #: Ids of the objects whose change may end the pause; empty if that is not known.
    depends_on: frozenset[str] = frozenset()


class KeyProblem(HashfleetError):
    """A signing key is missing, unreadable, or may not do what is asked of it."""


class CoordinatorError(HashfleetError):
    """The coordinator did not do what it was asked."""


class CoordinatorUnavailable(CoordinatorError):
    """No coordinator answered at the given address, or it is stopping."""


class JobNotFound(CoordinatorError):
    """The coordinator has no job of this id."""


class JobFinal(CoordinatorError):
    """The job is over and cannot be changed any more; or a transaction of it may land, so it cannot be cancelled."""
