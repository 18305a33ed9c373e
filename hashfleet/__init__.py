"""hashfleet: a proof-of-work fleet for Structs.

This is the only module that users import from; what stands below it may move.
"""

from typing import TYPE_CHECKING

from hashfleet.action import Action, Work
from hashfleet.autopilot_rule import AutopilotRule
from hashfleet.charter import Consent, Founding
from hashfleet.errors import (
    CoordinatorError,
    CoordinatorUnavailable,
    HashfleetError,
    InvalidInput,
    JobFinal,
    JobNotFound,
)
from hashfleet.job_request import JobRequest, Mode, Priority, StartMode
from hashfleet.proof import Proof, verify
from hashfleet.version import __version__

if TYPE_CHECKING:
    from hashfleet.client import FleetClient

__all__ = [
    "Action",
    "AutopilotRule",
    "Consent",
    "CoordinatorError",
    "CoordinatorUnavailable",
    "FleetClient",
    "Founding",
    "HashfleetError",
    "InvalidInput",
    "JobFinal",
    "JobNotFound",
    "JobRequest",
    "Mode",
    "Priority",
    "Proof",
    "StartMode",
    "Work",
    "__version__",
    "verify",
]


def __getattr__(name: str) -> object:
    """Import the client when it is first asked for: gRPC makes up most of its import time."""
    if name == "FleetClient":
        from hashfleet.client import FleetClient

        return FleetClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
