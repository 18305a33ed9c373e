"""hashfleet: a proof-of-work fleet for Structs.

This is the only module that users import from; what stands below it may move.
"""

from hashfleet.action import Action, Work
from hashfleet.errors import HashfleetError, InvalidInput
from hashfleet.proof import Proof, verify
from hashfleet.version import __version__

__all__ = ["Action", "HashfleetError", "InvalidInput", "Proof", "Work", "__version__", "verify"]
