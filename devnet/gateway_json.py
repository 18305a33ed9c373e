"""Protobuf as the SDK's REST prints it (grpc-gateway): 64-bit integers as strings, enums as names, no message as null.

Members keep their proto names, and zero members are printed, unless an answer is asked to be sparse: then nested
messages leave theirs out, as some versions of a node do.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from google.protobuf import json_format, symbol_database
from google.protobuf.any_pb2 import Any as ProtoAny
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

Json = dict[str, Any]

_AS_TEXT = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)


def printed(message: Message, *, sparse: bool = False) -> Json:
    """The JSON object of an answer."""
    return {field.name: _member(message, field, sparse) for field in message.DESCRIPTOR.fields}


def _nested(message: Message, sparse: bool) -> Any:
    if isinstance(message, Timestamp):
        return json_format.MessageToDict(message)
    if isinstance(message, ProtoAny):
        kind = symbol_database.Default().GetSymbol(message.type_url.rpartition("/")[2])
        return {"@type": message.type_url, **_nested(kind.FromString(message.value), sparse)}
    fields = [field for field, _ in message.ListFields()] if sparse else message.DESCRIPTOR.fields
    return {field.name: _member(message, field, sparse) for field in fields}


def _member(message: Message, field: Any, sparse: bool) -> Any:
    if field.is_repeated:
        return [_value(field, value, sparse) for value in getattr(message, field.name)]
    if field.message_type is not None and not message.HasField(field.name):
        return None
    return _value(field, getattr(message, field.name), sparse)


def _value(field: Any, value: Any, sparse: bool) -> Any:
    if field.message_type is not None:
        return _nested(value, sparse)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if field.cpp_type in _AS_TEXT:
        return str(value)
    return b64encode(value).decode("ascii") if isinstance(value, bytes) else value
