"""The operating system's keyring (Secret Service, KWallet, macOS Keychain, Windows Credential Manager).

The package `keyring` talks to it; it is an extra, because a server has neither. An entry belongs to the service
``hashfleet`` and has the key's address as its user name; its content is the private key in hex.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from coordinator.submission.keys_secret import Secret, concealed
from hashfleet.errors import KeyProblem

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE: Final = "hashfleet"
#: A keyring may ask its user to unlock it; this long, in seconds, it is waited for.
UNLOCK_SECONDS: Final = 120.0

_ResultT = TypeVar("_ResultT")


@concealed
def store(address: str, private_key_hex: Secret[str], seconds: float = UNLOCK_SECONDS) -> None:
    """Keep a private key. Raises KeyProblem if there is no keyring that can, or if it has an entry of this address."""
    backend = _backend()
    if _in_time(lambda: backend.get_password(SERVICE, address), seconds) is not None:
        raise KeyProblem(f"the keyring holds the key of {address} already; remove it there first")
    _in_time(lambda: backend.set_password(SERVICE, address, private_key_hex.reveal()), seconds)


@concealed
def fetch(address: str, seconds: float = UNLOCK_SECONDS) -> Secret[str]:
    """The private key of this address, in hex. Raises KeyProblem."""
    backend = _backend()
    found = _in_time(lambda: backend.get_password(SERVICE, address), seconds)
    if found is None:
        raise KeyProblem(
            f"the keyring has no key of {address}; it should be that of the user and machine that made the key"
        )
    return Secret(found)


@concealed
def remove(address: str, seconds: float = UNLOCK_SECONDS) -> bool:
    """Delete the entry of this address; False if there is none. Raises KeyProblem."""
    backend = _backend()
    if _in_time(lambda: backend.get_password(SERVICE, address), seconds) is None:
        return False
    _in_time(lambda: backend.delete_password(SERVICE, address), seconds)
    return True


def _backend() -> KeyringBackend:
    """The keyring of this user. Raises KeyProblem if the package or a keyring is missing, or if it does not encrypt."""
    try:
        import keyring
        from keyring.backends import chainer, fail, null
    except ImportError:
        raise KeyProblem(
            "the OS keyring needs the package keyring, which is not installed; "
            "install it with: pip install 'hashfleet[keyring]'"
        ) from None
    backend = keyring.get_keyring()
    members = backend.backends if isinstance(backend, chainer.ChainerBackend) else [backend]
    usable = [each for each in members if not isinstance(each, (fail.Keyring, null.Keyring))]
    if not usable:
        raise KeyProblem(
            "there is no OS keyring here (no Secret Service or KWallet in this session); "
            "keep the key in an encrypted file instead: hashfleet keys new NAME"
        )
    if any("Plaintext" in type(each).__name__ for each in usable):
        raise KeyProblem(
            "the keyring here keeps secrets in plain text; keep the key in an encrypted file instead: "
            "hashfleet keys new NAME"
        )
    return backend


def _in_time(question: Callable[[], _ResultT], seconds: float) -> _ResultT:
    """Ask the keyring within a time limit. Raises KeyProblem with the kind of an error, as its text may be anything."""
    import keyring.errors

    answers: list[_ResultT] = []
    problems: list[str] = []

    def ask() -> None:
        try:
            answers.append(question())
        except keyring.errors.KeyringLocked:
            problems.append("the OS keyring is locked; unlock it and try again")
        except Exception as error:  # noqa: BLE001 - a backend raises whatever its system does; told below
            problems.append(f"the OS keyring failed ({type(error).__name__}); is it running and unlocked?")

    # A thread of its own that nobody has to wait for: a prompt that is never answered would hold up the end as well.
    thread = threading.Thread(target=ask, name="keyring", daemon=True)
    thread.start()
    thread.join(seconds)
    if problems:
        raise KeyProblem(problems[0])
    if not answers:
        raise KeyProblem(f"the OS keyring did not answer within {seconds:g} s; unlock it and try again")
    return answers[0]
