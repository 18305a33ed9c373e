"""Files that hold a secret: read if only we and root can open them, and written so that nobody else ever can."""

from __future__ import annotations

import os
import secrets
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from coordinator.submission.keys_secret import Secret
from hashfleet.errors import KeyProblem

#: A mnemonic of 24 words has at most 215 characters; the bound only keeps a wrong path from costing memory.
MAX_BYTES: Final = 4096

#: Access control list of a file (acl(5)), as Linux keeps it: a version, then tag, permissions and id of each entry.
_ACL_ATTRIBUTE: Final = "system.posix_acl_access"
_ACL_VERSION: Final = 2
_ACL_HEADER: Final = struct.Struct("<I")
_ACL_ENTRY: Final = struct.Struct("<HHI")
_ACL_OWNER: Final = 0x01
_ACL_USER: Final = 0x02
_ACL_MASK: Final = 0x10


def read_private(path: Path, what: str) -> Secret[str]:
    """The text of a file that only we can open, root aside. `what` names it in errors. Raises KeyProblem.

    It has to be ours or root's. Owner and permissions are those of the file that was opened, so nobody can exchange it
    between check and reading.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KeyProblem(f"the {what} {path} cannot be opened: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyProblem(f"{path} is not a regular file; it should be a {what}")
        # Whoever owns a file can read it, exchange what is in it and give it any mode. Mounted secrets are root's.
        if status.st_uid not in (os.geteuid(), 0):
            raise KeyProblem(
                f"the {what} {path} belongs to another user, uid {status.st_uid}, who can read and change it; make it "
                f"yours with: chown {os.geteuid()} {path}"
            )
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) and not _for_us_alone(descriptor):
            raise KeyProblem(f"the {what} {path} is open to other users; make it private with: chmod 600 {path}")
        data = os.read(descriptor, MAX_BYTES + 1)
    except OSError as error:
        raise KeyProblem(f"the {what} {path} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise KeyProblem(f"the {what} {path} has more than {MAX_BYTES} bytes; it should hold one secret")
    try:
        return Secret(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise KeyProblem(f"the {what} {path} is not text; it should be UTF-8") from None


def write_private(path: Path, text: str) -> None:
    """Write a new file with mode 0600, whole or not at all, over no other. Raises KeyProblem.

    Missing folders are made with mode 0700. The file has its mode before it has content.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(descriptor, 0o600)
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            # A link, unlike a rename, never takes the place of a file that is there.
            try:
                os.link(draft, path)
            except FileExistsError:
                raise KeyProblem(f"{path} exists already; choose another name, or remove that key first") from None
        finally:
            draft.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeyProblem(f"the key file {path} cannot be written: {error.strerror}") from None


def _for_us_alone(descriptor: int) -> bool:
    """Whether the group bits of a file only stand for a right that its access control list gives to our own user.

    This is how systemd hands a credential to a service that is not root.
    """
    try:
        listed = os.getxattr(descriptor, _ACL_ATTRIBUTE)
    except OSError:  # no list: the bits mean what they say
        return False
    return acl_names_only(listed, os.geteuid())


def acl_names_only(listed: bytes, user: int) -> bool:
    """Whether an access control list lets in nobody but the file's owner and this user; False if it cannot be read."""
    try:
        return all(
            tag in (_ACL_OWNER, _ACL_MASK) or not permissions or (tag == _ACL_USER and who == user)
            for tag, permissions, who in _acl_entries(listed)
        )
    except (struct.error, ValueError):
        return False


def _acl_entries(listed: bytes) -> Iterator[tuple[int, int, int]]:
    (version,) = _ACL_HEADER.unpack_from(listed)
    if version != _ACL_VERSION:
        raise ValueError(f"access control lists of version {version} are not known")
    return _ACL_ENTRY.iter_unpack(listed[_ACL_HEADER.size :])
