"""Files that hold secrets: nobody else can open them, at no moment."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from coordinator.submission import keys_private_file
from coordinator.submission.keys_private_file import acl_names_only, read_private, write_private
from hashfleet.errors import KeyProblem

OWNER, USER, GROUP, NAMED_GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NOBODY = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int], version: int = 2) -> bytes:
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


#: What systemd gives to a service of user 990: root's file, mode 0440, and a list that lets in that user alone.
SYSTEMD = acl((OWNER, 4, NOBODY), (USER, 4, 990), (GROUP, 0, NOBODY), (MASK, 4, NOBODY), (OTHER, 0, NOBODY))


def test_a_written_file_belongs_to_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "new" / "folder" / "key", "secret")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "folder" / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new" / "folder").stat().st_mode) == 0o700
    assert read_private(tmp_path / "new" / "folder" / "key", "key file").reveal() == "secret"


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old")
    with pytest.raises(KeyProblem, match="exists already"):
        write_private(tmp_path / "key", "new")
    assert (tmp_path / "key").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys_private_file.os, "fsync", full)
    with pytest.raises(KeyProblem, match="cannot be written: No space left"):
        write_private(tmp_path / "key", "secret")
    assert list(tmp_path.iterdir()) == []


def test_the_name_appears_with_the_whole_content_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    link = os.link

    def linked(source: Path, target: Path) -> None:
        assert not target.exists()
        seen.append(source.read_text())
        link(source, target)

    monkeypatch.setattr(keys_private_file.os, "link", linked)
    write_private(tmp_path / "key", "the whole secret")
    assert seen == ["the whole secret"]


def test_a_folder_that_cannot_be_written_is_a_key_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyProblem, match="cannot be written"):
        write_private(tmp_path / "file" / "key", "secret")


def test_a_credential_that_systemd_gives_to_our_user_is_ours_alone() -> None:
    assert acl_names_only(SYSTEMD, 990)


@pytest.mark.parametrize(
    "listed",
    [
        SYSTEMD.replace(struct.pack("<I", 990), struct.pack("<I", 991)),
        SYSTEMD + struct.pack("<HHI", USER, 4, 991),
        SYSTEMD + struct.pack("<HHI", NAMED_GROUP, 4, 990),
        acl((OWNER, 6, NOBODY), (GROUP, 4, NOBODY), (OTHER, 0, NOBODY)),
        acl((OWNER, 6, NOBODY), (GROUP, 0, NOBODY), (OTHER, 4, NOBODY)),
        acl((OWNER, 6, NOBODY), version=3),
        SYSTEMD[:-1],
        b"",
    ],
    ids=["another user", "a second user", "a group", "the file's group", "others", "version", "cut off", "empty"],
)
def test_a_list_that_lets_in_anybody_else_or_cannot_be_read_is_refused(listed: bytes) -> None:
    assert not acl_names_only(listed, 990)


def test_a_file_with_such_a_list_is_read_and_with_another_refused(tmp_path: Path) -> None:
    path = tmp_path / "credential"
    path.write_text("secret")
    ours = SYSTEMD.replace(struct.pack("<I", 990), struct.pack("<I", os.geteuid()))
    try:
        os.setxattr(path, "system.posix_acl_access", ours)
    except OSError as error:
        pytest.skip(f"this file system keeps no access control lists: {error.strerror}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    assert read_private(path, "key file").reveal() == "secret"
    os.setxattr(path, "system.posix_acl_access", SYSTEMD.replace(struct.pack("<I", 990), struct.pack("<I", 991)))
    with pytest.raises(KeyProblem, match="open to other users"):
        read_private(path, "key file")


def owned_by(monkeypatch: pytest.MonkeyPatch, path: Path, owner: int, ours: int) -> None:
    """Have the file belong to `owner`, seen by a process of the user `ours`."""
    path.write_text("secret")
    path.chmod(0o600)
    real = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        fields = list(real(descriptor))
        fields[stat.ST_UID] = owner
        return os.stat_result(fields)

    monkeypatch.setattr(keys_private_file.os, "fstat", fstat)
    monkeypatch.setattr(keys_private_file.os, "geteuid", lambda: ours)


@pytest.mark.parametrize("ours", [0, 990], ids=["root", "a service"])
def test_a_file_of_another_user_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ours: int
) -> None:
    owned_by(monkeypatch, tmp_path / "key", 991, ours)
    with pytest.raises(KeyProblem, match=rf"belongs to another user, uid 991, .*chown {ours} "):
        read_private(tmp_path / "key", "key file")


@pytest.mark.parametrize(("owner", "ours"), [(0, 0), (990, 990), (0, 990)], ids=["root's", "ours", "mounted"])
def test_a_file_of_ours_or_of_root_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, owner: int, ours: int
) -> None:
    owned_by(monkeypatch, tmp_path / "key", owner, ours)
    assert read_private(tmp_path / "key", "key file").reveal() == "secret"
