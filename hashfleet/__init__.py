"""hashfleet: a proof-of-work fleet for Structs.

This is the only module that users import from; everything else under it is private in the sense that it may move.
"""

from hashfleet.action import Action, Work
from hashfleet.client import FleetClient
from hashfleet.errors import HashfleetError, InvalidInput
from hashfleet.proof import Proof, verify
from hashfleet.version import __version__

__all__ = ["Action", "FleetClient", "HashfleetError", "InvalidInput", "Proof", "Work", "__version__", "verify"]
