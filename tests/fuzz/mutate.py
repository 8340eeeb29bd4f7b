"""Spoiling what is good: JSON values in their structure, and bytes as such."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from random import Random
from typing import Any

#: Values that have broken somebody's parser before.
ODD_VALUES: Sequence[Any] = (
    None, True, False, 0, -1, 1, 2**53 - 1, 2**53, -(2**53), 2**63, 2**64, 10**30, 1.0, -0.0, 1.5, 1e308,
    "", " ", "\0", "\x7f", "\u202e", "\ufeff", "\ud7ff", "𝄞", "a" * 300, "é" * 200, "@", "!", "#", "$", ":",
    "@a:b", "@:b", "@a:", "!a:b", "$a:b", "$" + "A" * 43, "!" + "A" * 43, "@a:b:c", "@" + "a" * 300 + ":b",
    "m.room.create", "m.room.member", "m.room.power_levels", "join", "leave", "ban", "invite", "knock", "public",
    "100", "-1", " 1", "1_0", "1e2", "NaN", "9" * 30, "__proto__", "ed25519:1",
    [], {}, [[]], [{}], {"": {}}, [None], ["$a:b"], [["$a:b", {}]], {"a": {"a": {"a": {}}}},
)  # fmt: skip

#: Pieces of JSON and HTTP that land in the middle of bytes.
ODD_BYTES: Sequence[bytes] = (
    b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"\\u0000", b"\\ud800", b"\xff", b"\xc3\x28", b"\0", b"\r\n",
    b"\n", b"NaN", b"-Infinity", b"1e999", b"-", b"0x1", b"01", b"1.", b"[" * 3000, b'{"a":' * 500, b" " * 500, b"%",
    b"%00", b"%2", b"%ff", b"/", b"//", b"/../", b"?", b"&", b"=", b"#", b";", b"A" * 5000, b"\r\n\r\n", b"9" * 40,
    b"\xe2\x80\xae",
)  # fmt: skip


def spoil(chance: Random, value: Any) -> Any:
    """A copy of a JSON value in which a few things are gone, doubled, or something else."""
    spoiled = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        spoiled = _spoil_one(chance, spoiled)
    return spoiled


def _spoil_one(chance: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        match chance.randrange(10):
            case 0:
                del value[key]
            case 1:
                value[chance.choice([each for each in ODD_VALUES if isinstance(each, str)])] = value[key]
            case 2 | 3 | 4:
                value[key] = _odd(chance)
            case _:
                value[key] = _spoil_one(chance, value[key])
        return value
    if isinstance(value, list) and value and chance.random() < 0.85:
        index = chance.randrange(len(value))
        match chance.randrange(6):
            case 0:
                del value[index]
            case 1:
                value += value * chance.choice((1, 1, 30))
            case 2:
                value[index] = _odd(chance)
            case _:
                value[index] = _spoil_one(chance, value[index])
        return value
    return _odd(chance)


def _odd(chance: Random) -> Any:
    return copy.deepcopy(chance.choice(ODD_VALUES))


def spoil_bytes(chance: Random, data: bytes) -> bytes:
    """The bytes with a few of them flipped, cut out, doubled, or joined by odd ones."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.choice((0, 1, 1, 3, 20)))
        match chance.randrange(5):
            case 0:
                data = data[:start] + data[end:]
            case 1:
                data = data[:start] + chance.choice(ODD_BYTES) + data[end:]
            case 2:
                data = data[:start] + bytes([chance.randrange(256)]) + data[start + 1 :]
            case 3:
                data = data[:end] + data[start:]
            case _:
                data = data[:start]
    return data


def as_json(value: Any) -> bytes:
    """JSON text, sometimes escaped more than needed; lone surrogates and huge numbers as they come."""
    return json.dumps(value, ensure_ascii=isinstance(value, dict) and len(value) % 2 == 0).encode(
        "utf-8", "surrogatepass"
    )
