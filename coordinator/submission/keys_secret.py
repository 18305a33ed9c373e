"""What keeps a secret out of what Python shows: a wrapper without a readable form, silent errors, no core file.

An interpreter cannot promise more: strings are copied and collected when it likes, and whoever may read this process's
memory (root, or a debugger that is allowed to attach) can read the key that it signs with.
"""

from __future__ import annotations

import ctypes
import functools
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, NoReturn, ParamSpec, TypeVar

from hashfleet.errors import KeyProblem

_ValueT = TypeVar("_ValueT", str, bytes)
_ResultT = TypeVar("_ResultT")
_P = ParamSpec("_P")

#: prctl(2).
_PR_SET_DUMPABLE: Final = 4


class Secret(Generic[_ValueT]):
    """A mnemonic, a passphrase or a private key on its way; only `reveal` gives it out."""

    __slots__ = ("__value",)

    def __init__(self, value: _ValueT) -> None:
        self.__value: _ValueT = value

    def reveal(self) -> _ValueT:
        """The secret itself. Bind it to no name that outlives the statement, or in a `concealed` function only."""
        return self.__value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied: it stays in this process")


def concealed(function: Callable[_P, _ResultT]) -> Callable[_P, _ResultT]:
    """Let what `function` raises carry neither a frame nor an argument that held a secret.

    Tools that show the local variables of a traceback would show the secret otherwise. A KeyProblem is raised anew with
    its sentence; of any other exception, which may repeat what it was given, only the kind and the place are told.
    """

    @functools.wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _ResultT:
        try:
            return function(*args, **kwargs)
        except KeyProblem as error:
            sentence = str(error)
        except Exception as error:  # noqa: BLE001 - raised again as a KeyProblem, below
            sentence = f"handling a key failed with {type(error).__name__} at {_place(error)}; please report this line"
        del args, kwargs
        raise KeyProblem(sentence)

    return guarded


def _place(error: Exception) -> str:
    """File and line in which an exception was raised."""
    step = error.__traceback__
    assert step is not None
    while step.tb_next is not None:
        step = step.tb_next
    return f"{Path(step.tb_frame.f_code.co_filename).name}:{step.tb_lineno}"


def protect_process() -> None:
    """Let this process leave no core file, and no process of the same user read its memory or environment (Linux).

    To be called before the first secret is read. What it starts with exec is not concerned, but for the limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":
        # The limit alone does not hold where core files are piped to a collector.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
