"""`hashfleet keys` from its arguments to its exit status, files and words."""

# ruff: noqa: N802 - the methods of a servicer are named by the proto

from __future__ import annotations

import getpass
import hashlib
import io
import json
import stat
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import keyring
import pytest
from coincurve import PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_compact
from keyring.backend import KeyringBackend

from coordinator.chain import key_rights
from coordinator.submission import keys
from hashfleet.cli import keys as keys_command
from hashfleet.cli.main import main
from hashfleet.rpc.structs.structs import query_pb2, query_pb2_grpc

MNEMONIC = "legal winner thank year wave sausage worth useful legal winner thank yellow"
ADDRESS = keys.from_mnemonic(MNEMONIC).address
HEX = bytes(range(1, 33)).hex()
PASSPHRASE = "correct horse battery"

Run = Callable[..., tuple[int, str, str]]


class Terminal(io.StringIO):
    """stdin or stdout that somebody sits at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the keys; no setting of this machine reaches the command, nor it this process."""
    for name in ("HASHFLEET_CHAIN_GRPC", "HASHFLEET_KEY_PASSPHRASE", "HASHFLEET_KEY_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HASHFLEET_KEYS", str(tmp_path / "keys"))
    monkeypatch.setattr(keys_command, "protect_process", lambda: None)
    return tmp_path / "keys"


@pytest.fixture
def passphrase_file(tmp_path: Path) -> str:
    path = tmp_path / "passphrase"
    path.write_text(PASSPHRASE + "\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status, stdout and stderr of `hashfleet keys ...`; `typed` is what comes by stdin."""

    def run(*arguments: str, typed: io.StringIO | str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hashfleet", "keys", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed) if isinstance(typed, str) else typed)
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return run


@pytest.fixture
def make(run: Run, passphrase_file: str) -> Run:
    """`new` or `import` with a passphrase and a cheap cost."""

    def make(*arguments: str, typed: str = "") -> tuple[int, str, str]:
        return run(*arguments, "--passphrase-file", passphrase_file, "--scrypt-n", "1024", typed=typed)

    return make


def loaded(path: str | Path) -> str:
    """The address of the key that a coordinator would sign with."""
    (key,) = keys.load_keys([Path(path)], {"HASHFLEET_KEY_PASSPHRASE": PASSPHRASE})
    return key.address


def test_a_new_key_is_a_private_file_that_a_coordinator_opens(make: Run, folder: Path) -> None:
    status, out, _ = make("new", "fleet", "--json")
    told = json.loads(out)
    assert status == 0
    assert told["file"] == str(folder / "fleet.json")
    assert stat.S_IMODE((folder / "fleet.json").stat().st_mode) == 0o600
    assert loaded(told["file"]) == told["address"]


def test_the_mnemonic_is_not_printed_into_a_pipe_unless_asked_for(make: Run) -> None:
    assert "mnemonic" not in json.loads(make("new", "a", "--json")[1])
    assert "was not shown" in make("new", "b")[1]
    told = json.loads(make("new", "c", "--json", "--show-mnemonic")[1])
    assert keys.from_mnemonic(told["mnemonic"]).address == told["address"]
    assert len(told["mnemonic"].split()) == 24


def test_the_mnemonic_is_shown_once_on_a_terminal(make: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    make("new", "fleet", "--words", "12")
    shown = terminal.getvalue()
    (words,) = [line for line in shown.splitlines() if len(line.split()) == 12 and line.islower()]
    assert keys.from_mnemonic(words).address in shown
    assert shown.count(words) == 1


def test_a_name_that_is_taken_is_refused_before_anything_is_asked(make: Run, folder: Path) -> None:
    make("new", "fleet")
    before = (folder / "fleet.json").read_bytes()
    for command, typed in (("new", ""), ("import", MNEMONIC)):
        status, _, err = make(command, "fleet", typed=typed)
        assert (status, "exists already" in err) == (1, True)
    assert (folder / "fleet.json").read_bytes() == before


@pytest.mark.parametrize("typed", [MNEMONIC, MNEMONIC.upper() + "\n"])
def test_a_mnemonic_is_imported_from_stdin(make: Run, typed: str) -> None:
    status, out, _ = make("import", "fleet", "--json", typed=typed)
    assert (status, json.loads(out)["address"]) == (0, ADDRESS)
    assert loaded(json.loads(out)["file"]) == ADDRESS


def test_a_hex_key_is_imported_from_stdin(make: Run) -> None:
    told = json.loads(make("import", "fleet", "--json", typed=f"0x{HEX}\n")[1])
    assert loaded(told["file"]) == told["address"] == keys.from_hex(HEX).address


def test_another_path_imports_another_account_of_the_mnemonic(make: Run) -> None:
    told = json.loads(make("import", "second", "--path", "m/44'/118'/0'/0/1", "--json", typed=MNEMONIC)[1])
    assert told["address"] == keys.from_mnemonic(MNEMONIC, path="m/44'/118'/0'/0/1").address != ADDRESS


def test_at_a_terminal_key_and_passphrase_are_asked_for_unseen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "Mnemonic": [MNEMONIC],
        "New passphrase": ["short", PASSPHRASE, PASSPHRASE],
        "The same": ["x", PASSPHRASE],
    }
    monkeypatch.setattr(
        getpass, "getpass", lambda prompt: next(v.pop(0) for k, v in answers.items() if prompt.startswith(k))
    )
    status, out, err = run("import", "fleet", "--scrypt-n", "1024", "--json", typed=Terminal())
    assert (status, loaded(json.loads(out)["file"])) == (0, ADDRESS)
    assert "at least 8 characters" in err and "differ" in err
    assert not any(answers.values())


def test_without_terminal_and_passphrase_file_it_says_what_to_set(run: Run, folder: Path) -> None:
    status, _, err = run("new", "fleet")
    assert status == 1
    assert "HASHFLEET_KEY_PASSPHRASE_FILE" in err
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("import", "fleet", *MNEMONIC.split()),
        ("import", "fleet", HEX),
        ("import", HEX),
        ("new", MNEMONIC),
        ("new", "fleet", HEX),
    ],
)
def test_a_key_on_the_command_line_is_refused_and_not_repeated(
    make: Run, folder: Path, arguments: tuple[str, ...]
) -> None:
    status, out, err = make(*arguments)
    assert status == 1
    assert "sausage" not in out + err
    assert HEX not in out + err
    assert not folder.exists()


@pytest.mark.parametrize("name", ["../up", ".hidden", "a/b", "", "x" * 41])
def test_a_name_that_leads_elsewhere_is_refused(make: Run, name: str) -> None:
    status, _, err = make("new", name)
    assert (status, "1 to 40 letters" in err) == (1, True)


def test_a_misspelt_mnemonic_is_told_by_position(make: Run, folder: Path) -> None:
    status, out, err = make("import", "fleet", typed=MNEMONIC.replace("sausage", "sausgae"))
    assert status == 1
    assert "word 6" in err
    assert "sausgae" not in out + err
    assert not folder.exists()


def test_too_much_on_stdin_is_refused(make: Run) -> None:
    status, _, err = make("import", "fleet", typed="a " * 5000)
    assert (status, "more than 4096" in err) == (1, True)


def test_the_list_names_every_key_and_says_what_is_broken(make: Run, run: Run, folder: Path) -> None:
    make("import", "b", typed=MNEMONIC)
    make("import", "a", typed=HEX)
    status, out, _ = run("list", "--json")
    assert status == 0
    assert [(key["name"], key["address"]) for key in json.loads(out)] == [
        ("a", keys.from_hex(HEX).address),
        ("b", ADDRESS),
    ]
    (folder / "c.json").write_text("{}")
    (folder / "c.json").chmod(0o600)
    status, out, err = run("list")
    assert status == 1
    assert ADDRESS in out
    assert str(folder / "c.json") in err


def test_an_empty_list_says_how_a_key_is_made(run: Run) -> None:
    assert "hashfleet keys new NAME" in run("list")[1]
    assert run("list", "--json")[1].strip() == run("show", "--json")[1].strip() == "[]"


def test_show_tells_addresses_without_a_passphrase(make: Run, run: Run, tmp_path: Path) -> None:
    make("import", "fleet", typed=MNEMONIC)
    clear = tmp_path / "clear"
    clear.write_text(HEX)
    clear.chmod(0o600)
    assert ADDRESS in run("show", "fleet")[1]
    assert ADDRESS in run("show")[1]
    told = json.loads(run("show", "fleet", "--key-file", str(clear), "--json")[1])
    assert [(key["address"], key["kept_in"]) for key in told] == [
        (ADDRESS, "file"),
        (keys.from_hex(HEX).address, "clear"),
    ]
    assert run("show", "none")[0] == 1


def test_registering_prints_the_command_with_the_proof_that_the_chain_wants(
    make: Run, run: Run, passphrase_file: str
) -> None:
    make("import", "fleet", typed=MNEMONIC)
    status, out, _ = run("register", "fleet", "--player", "1-7", "--passphrase-file", passphrase_file, "--json")
    told = json.loads(out)
    assert status == 0
    assert told["command"].split()[3:] == [
        "address-register",
        "1-7",
        ADDRESS,
        told["public_key"],
        told["signature"],
        "15728641",
    ]
    compact = bytes.fromhex(told["signature"])
    digest = hashlib.sha256(f"PLAYER1-7ADDRESS{ADDRESS}".encode()).digest()
    assert PublicKey(bytes.fromhex(told["public_key"])).verify(
        cdata_to_der(deserialize_compact(compact)), digest, hasher=None
    )
    assert out.count(told["signature"]) == 2
    status, out, _ = run("register", "fleet", "--player", "1-7", "--passphrase-file", passphrase_file)
    assert out.startswith(f"structsd tx structs address-register 1-7 {ADDRESS} ")


def test_a_delegate_key_has_the_same_bits_everywhere() -> None:
    assert keys_command.HASH_DELEGATE == key_rights.HASH_DELEGATE == 15728641


def test_a_key_is_removed_only_with_a_yes(make: Run, run: Run, folder: Path) -> None:
    make("new", "fleet")
    status, _, err = run("remove", "fleet")
    assert (status, "--yes" in err) == (1, True)
    assert run("remove", "fleet", typed=Terminal("n\n"))[0] == 130
    assert (folder / "fleet.json").exists()
    assert run("remove", "fleet", "--yes")[0] == 0
    assert not (folder / "fleet.json").exists()


# The OS keyring


class MemoryKeyring(KeyringBackend):
    """Keeps entries."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


@pytest.fixture
def ring() -> Iterator[MemoryKeyring]:
    before, ring = keyring.get_keyring(), MemoryKeyring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


def test_a_key_goes_into_the_keyring_and_out_of_it(run: Run, ring: MemoryKeyring, folder: Path) -> None:
    told = json.loads(run("import", "fleet", "--keyring", "--json", typed=MNEMONIC)[1])
    assert told["kept_in"] == "keyring"
    assert list(ring.entries) == [("hashfleet", ADDRESS)]
    (key,) = keys.load_keys([folder / "fleet.json"], {})
    assert key.address == ADDRESS
    assert run("remove", "fleet", "--yes")[0] == 0
    assert ring.entries == {}
    assert list(folder.iterdir()) == []


def test_a_key_whose_file_cannot_be_written_is_not_left_in_the_keyring(
    run: Run, ring: MemoryKeyring, folder: Path
) -> None:
    folder.parent.joinpath("file").touch()
    status, _, err = run("import", "fleet", "--keyring", "--folder", str(folder.parent / "file" / "in"), typed=MNEMONIC)
    assert (status, "cannot be written" in err) == (1, True)
    assert ring.entries == {}


# What the chain says


class ScriptedQueries(query_pb2_grpc.QueryServicer):
    """Addresses and permissions as a test sets them."""

    def __init__(self) -> None:
        self.addresses: dict[str, tuple[str, int]] = {}
        self.granted: dict[str, int] = {}

    def Address(self, request: Any, context: Any) -> Any:
        player, permissions = self.addresses.get(request.address, ("1-0", 0))
        return query_pb2.QueryAddressResponse(address=request.address, playerId=player, permissions=permissions)

    def Permission(self, request: Any, context: Any) -> Any:
        if request.permissionId not in self.granted:
            context.abort(grpc.StatusCode.NOT_FOUND, "not found")
        answer = query_pb2.QueryGetPermissionResponse()
        answer.permissionRecord.permissionId = request.permissionId
        answer.permissionRecord.value = self.granted[request.permissionId]
        return answer


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[ScriptedQueries]:
    queries = ScriptedQueries()
    server = grpc.server(ThreadPoolExecutor(2))
    query_pb2_grpc.add_QueryServicer_to_server(queries, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("HASHFLEET_CHAIN_GRPC", f"127.0.0.1:{port}")
    yield queries
    server.stop(0)


@pytest.mark.parametrize(
    ("permissions", "told", "delegate"),
    [
        (
            15728641,
            [
                "complete builds, complete mining, complete refining, complete raids",
                "all it needs and nothing more (15728641)",
            ],
            True,
        ),
        (33554431, ["everything", "and more than that"], True),
        (15728641 | 2 | 524288, ["create guilds at reactors", "more (bits 2)", "and more than that"], True),
        (1 << 20, ["lacks PermPlay (1), PermHashMine (2097152), PermHashRefine (4194304), PermHash"], False),
        (0, ["nothing (permissions 0)"], False),
    ],
)
def test_show_says_in_words_what_an_address_may_do_and_lacks(
    make: Run, run: Run, chain: ScriptedQueries, permissions: int, told: list[str], delegate: bool
) -> None:
    make("import", "fleet", typed=MNEMONIC)
    chain.addresses[ADDRESS] = "1-11", permissions
    _, out, _ = run("show", "fleet")
    assert "1-11" in out
    assert [words for words in told if words not in out] == []
    (key,) = json.loads(run("show", "--json")[1])
    assert (key["player"], key["permissions"], key["hash_delegate"]) == ("1-11", permissions, delegate)
    assert (key["lacks"] == []) is delegate


def test_show_says_that_an_address_is_not_registered(make: Run, run: Run, chain: ScriptedQueries) -> None:
    make("import", "fleet", typed=MNEMONIC)
    assert "not registered" in run("show")[1]
    (key,) = json.loads(run("show", "--json")[1])
    assert (key["player"], key["may"]) == (None, [])


def test_show_says_what_an_owner_granted(make: Run, run: Run, chain: ScriptedQueries) -> None:
    make("import", "fleet", typed=MNEMONIC)
    chain.addresses[ADDRESS] = "1-11", 15728641
    assert "lacks PermHashBuild (1048576), PermHashMine" in run("show", "--owner", "1-7")[1]
    chain.granted["1-7@1-11"] = 15728640
    assert "may complete all of that player's work" in run("show", "--owner", "1-7")[1]
    (key,) = json.loads(run("show", "--owner", "1-7", "--json")[1])
    assert (key["owner"], key["granted"]) == ("1-7", 15728640)
    assert "own key" in run("show", "--owner", "1-11")[1]


def test_a_chain_that_does_not_answer_is_one_sentence(make: Run, run: Run) -> None:
    make("import", "fleet", typed=MNEMONIC)
    status, _, err = run("show", "--chain-grpc", "127.0.0.1:1")
    assert status == 1
    assert err.startswith("hashfleet: ")
    assert err.count("\n") == 1


def test_an_owner_without_a_chain_is_refused(run: Run) -> None:
    status, _, err = run("show", "--owner", "1-7")
    assert (status, "--chain-grpc" in err) == (1, True)
