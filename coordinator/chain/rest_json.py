"""A node's REST answers as the protobuf messages that gRPC would have brought. Pure.

The gateway writes 64-bit integers as strings, enums as names, bytes as base64, and may leave members out that are zero.
Members that our messages do not have are passed over, and so are new names in members that nobody reads. Whatever else
is there and cannot be read is refused: a name that an enum does not have must not become its zero, which for a planet
means "active".
"""

from __future__ import annotations

import json
from typing import Final, cast

from google.protobuf import any_pb2, json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from coordinator.chain.transport import Answer
from hashfleet.errors import BadChainAnswer
from hashfleet.rpc.cosmos.auth.v1beta1 import auth_pb2

_ANY: Final = any_pb2.Any.DESCRIPTOR.full_name
#: What an Any may hold for us to read it; others keep their type only, like an Any that nobody unpacks.
_KNOWN_ANY: Final[dict[str, Descriptor]] = {
    f"/{auth_pb2.BaseAccount.DESCRIPTOR.full_name}": auth_pb2.BaseAccount.DESCRIPTOR
}
#: Nobody reads these, and what they hold is whatever message any module of the chain may have.
_UNREAD: Final = frozenset({"cosmos.tx.v1beta1.GetTxResponse.tx", "cosmos.base.abci.v1beta1.TxResponse.tx"})
#: Nobody reads these either, so a name that a newer version adds to them says nothing to us.
UNREAD_ENUMS: Final = frozenset({"structs.structs.Struct.operatingAmbit", "structs.structs.StructType.category"})
#: Our messages nest five deep.
_MAX_DEPTH: Final = 12


class _Unreadable(Exception):
    """What about an answer cannot be read."""


def read_answer(data: bytes, kind: type[Answer], where: str, what: str) -> Answer:
    """The message that a REST body holds. Raises BadChainAnswer.

    At least one member must be there: a node prints all of an answer, so an object without any is an answer of
    something else.
    """
    try:
        value = json.loads(data)
        if not isinstance(value, dict):
            raise _Unreadable("it is no JSON object")
        kept = _kept(value, cast(Descriptor, kind.DESCRIPTOR), 0)
        if not any(field.name in value or field.json_name in value for field in kind.DESCRIPTOR.fields):
            raise _Unreadable("it has none of the members that it should have")
        answer = json_format.ParseDict(kept, kind())
        for field in kind.DESCRIPTOR.fields:
            if field.message_type is not None and field.message_type.full_name == _ANY and field.name not in kept:
                _note_type(getattr(answer, field.name), value.get(field.name))
        return answer
    except (ValueError, RecursionError, json_format.ParseError, _Unreadable) as error:
        told = f"{error}"[:200]
        raise BadChainAnswer(f"the REST answer of {where} about {what} cannot be read: {ascii(told)[1:-1]}") from error


def error_of(data: bytes) -> tuple[int | None, str]:
    """gRPC's code (None if it does not tell one) and the text of a REST error body."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None, ""
    if not isinstance(value, dict):
        return None, ""
    code, text = value.get("code"), value.get("message") or value.get("error")
    return code if type(code) is int and 0 < code <= 16 else None, text if isinstance(text, str) else ""


def _kept(value: dict[str, object], kind: Descriptor, depth: int) -> dict[str, object]:
    """What of a JSON object the message has; null counts as left out, as proto3's JSON has it."""
    if depth > _MAX_DEPTH:
        raise _Unreadable("it is nested too deep")
    kept: dict[str, object] = {}
    for field in kind.fields:
        name = field.name if value.get(field.name) is not None else field.json_name
        inner = value.get(name)
        if inner is None or field.full_name in _UNREAD:
            continue
        if not field.is_repeated:
            told = _value(inner, field, depth)
        elif isinstance(inner, list):
            told = [_value(each, field, depth) for each in inner]
        else:
            raise _Unreadable(f"{field.name} is no list")
        if told is not None:
            kept[field.name] = told
    return kept


def _value(value: object, field: FieldDescriptor, depth: int) -> object:
    if field.enum_type is not None:
        known = value in field.enum_type.values_by_name if isinstance(value, str) else type(value) is int
        if not known and field.full_name in UNREAD_ENUMS:
            return None
        if not known:
            raise _Unreadable(f"{field.name} is {ascii(value)[:60]}, which is none of its names")
        return value
    if field.message_type is None:
        return value
    if field.message_type.full_name == _ANY:
        return _any(value, field, depth)
    if isinstance(value, str):
        return value  # well-known types that are written as text: times
    if not isinstance(value, dict):
        raise _Unreadable(f"{field.name} is no object")
    return _kept(value, field.message_type, depth + 1)


def _note_type(field: any_pb2.Any, value: object) -> None:
    """Set the type of an Any whose content is not for us to read, for whoever says so to the user."""
    kind = value.get("@type") if isinstance(value, dict) else None
    if isinstance(kind, str):
        field.type_url = kind


def _any(value: object, field: FieldDescriptor, depth: int) -> object:
    kind = value.get("@type") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str):
        raise _Unreadable(f"{field.name} does not tell its type")
    if kind not in _KNOWN_ANY:
        return None
    return {"@type": kind, **_kept(value, _KNOWN_ANY[kind], depth + 1)}
