"""A pickle of plain values, read by an interpreter that can build nothing else and never calls what a pickle names."""

from __future__ import annotations

import codecs
import io
import pickletools
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm2tuples.errors import DataError, first_line
from sfm2tuples.files.regular_files import require_file

MOST_BYTES = 1 << 29
"""A larger file is refused; a million images take a tenth of it."""
MOST_STEPS = 20_000_000
"""Instructions of one pickle at most: bounds the memory that they can ask for; a million images take six million."""
COPIES = 4
"""Bytes that arrays are made of, as a multiple of the file's: a few that are used over and over fill no memory."""
NEWEST_PROTOCOL = 5

_ALLOWED = {
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "numpy.core.multiarray._reconstruct": "array",
    "numpy._core.multiarray._reconstruct": "array",
    "numpy.core.multiarray.scalar": "scalar",
    "numpy._core.multiarray.scalar": "scalar",
    "numpy.core.numeric._frombuffer": "frombuffer",
    "numpy._core.numeric._frombuffer": "frombuffer",
    "_codecs.encode": "encode",
    "builtins.bytes": "bytes",
    "__builtin__.bytes": "bytes",
}
"""All names that a pickle may hold, and which of `_CALLS` stands in for each; numpy itself is never called by it."""
_NUMBERS_AND_TEXT = re.compile(r"b1|[iu][1248]|f[248]|[SU][0-9]{1,4}|O8?")


class PickledArray:
    """A one-dimensional array or one of objects; its values are known once the pickle has filled it."""

    def __init__(self) -> None:
        self._values: list[Any] = []

    def tolist(self) -> list[Any]:
        """Its values as plain Python values."""
        return self._values

    def fill(self, shape: object, dtype: object, data: object) -> None:
        """Take the values; their number must be what the shape says, and the bytes as many as they need."""
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or len(shape) != 1:
            raise ValueError("an array of more than one dimension, or of no known type")
        values = data if dtype.code[0] == "O" else dtype.values(_as_bytes(data))
        if not isinstance(values, list) or len(values) != shape[0]:
            raise ValueError("an array whose values are not as many as it says")
        self._values = [_text(value) for value in values] if dtype.code[0] == "S" else values


@dataclass
class _Dtype:
    """A type of numbers or text."""

    code: str
    order: str = "="

    def values(self, data: bytes) -> list[Any]:
        order = self.order.replace("|", "=")
        if self.code[0] == "U" and np.any(np.frombuffer(data, order + "u4") > sys.maxunicode):
            raise ValueError("text with codes that no character has")
        return np.frombuffer(data, order + self.code).tolist()


@dataclass(frozen=True)
class _Global:
    """An allowed name on the stack; no pickle can make one otherwise."""

    name: str


class _RefusedError(Exception):
    """The pickle asks for what a file of plain values has no use for."""


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle of protocol 0 to 5, of Python 2 or 3, that holds plain values only.

    Lists, tuples, dicts with text or numbers as keys, text, bytes, numbers, None, numpy scalars and arrays of one
    dimension (`PickledArray`). Text of Python 2 is taken as Latin-1. Nothing in the file is executed.

    Raises
    ------
    DataError
        There is no such file, it is torn, too large, or names anything that is not on a short list; the message
        says what.
    """
    require_file(path)
    if path.stat().st_size > MOST_BYTES:
        raise DataError(path, f"{path.stat().st_size:,} bytes are more than a pickle of tuples has ({MOST_BYTES:,})")
    try:
        data = path.read_bytes()
        return _Machine(COPIES * len(data)).run(io.BytesIO(data))
    except _RefusedError as error:
        raise DataError(path, f"{error}; nothing of it was run", "only lists of plain values are read") from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, OSError, struct.error) as error:
        what = f"is not a whole pickle ({first_line(error)[:120]})"
        raise DataError(path, what, "give the .pkl file itself, downloaded whole") from error


class _Machine:
    """The stack, the marks in it and the memo of the pickle language."""

    def __init__(self, most_copied: int) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.may_copy = most_copied

    def run(self, stream: io.BytesIO) -> Any:
        """Follow the instructions up to STOP; O(bytes) time and memory."""
        for _ in range(MOST_STEPS):
            code = stream.read(1)
            if code == b".":
                return self.stack.pop()
            if code not in _STEPS:
                raise _RefusedError(_unknown_instruction(code))
            act, read = _STEPS[code]
            act(self, read(stream) if read else None)
        raise _RefusedError(f"takes more than {MOST_STEPS:,} steps")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.below.pop()
        return items

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("too few values for a tuple")
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.push(items)

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("values for a list that is none")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target, keys, values = self.stack[-1], items[::2], items[1::2]
        # Other keys would have to be hashed, which nested tuples make as long as an attacker wants.
        if not isinstance(target, dict) or len(keys) != len(values) or not all(isinstance(k, (str, int)) for k in keys):
            raise ValueError("a dict whose keys are not text or numbers")
        target.update(zip(keys, values, strict=True))

    def last(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def name(self, name: object) -> None:
        if not isinstance(name, str) or name not in _ALLOWED:
            raise _RefusedError(f"asks for {str(name)[:100]}")
        self.push(_Global(_ALLOWED[name]))

    def stack_name(self, _: Any) -> None:
        module, name = self.last(2)
        self.name(f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "a name that is no text")

    def call(self, _: Any) -> None:
        function, values = self.last(2)
        if not isinstance(function, _Global) or function.name not in _CALLS or not isinstance(values, tuple):
            raise _RefusedError("asks to call what is no function of numpy's arrays")
        self.count(values)
        self.push(_CALLS[function.name](*values))

    def count(self, values: tuple[Any, ...]) -> None:
        self.may_copy -= sum(len(value) for value in values if isinstance(value, (str, bytes, bytearray)))
        if self.may_copy < 0:
            raise _RefusedError("makes arrays of the same bytes over and over")

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, PickledArray):
            _, shape, dtype, _, data = state
            self.count((data,))
            target.fill(shape, dtype, data)
        elif isinstance(target, _Dtype) and isinstance(state, tuple):
            target.order = _byte_order(state)
        else:
            raise _RefusedError("asks to change an object")


def _unknown_instruction(code: bytes) -> str:
    if not code:
        raise ValueError("it ends in the middle")
    known = {opcode.code: opcode.name for opcode in pickletools.opcodes}.get(code.decode("latin-1"))
    if known is None:
        raise ValueError(f"byte {code[0]:#04x} is no instruction")
    return f"has the instruction {known}, which builds objects"


def _byte_order(state: tuple[Any, ...]) -> str:
    """Of a dtype's state; records and sub-arrays have no place in a column."""
    if len(state) < 5 or state[1] not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
        raise ValueError("a type of records")
    return str(state[1])


def _dtype(code: object, *_: object) -> _Dtype:
    text = _text(code)
    if not isinstance(text, str) or not _NUMBERS_AND_TEXT.fullmatch(text):
        raise ValueError("an array of no known type")
    return _Dtype(text)


def _array(kind: object, *_: object) -> PickledArray:
    if kind != _Global("ndarray"):
        raise ValueError("an array of no known class")
    return PickledArray()


def _frombuffer(data: object, dtype: object, shape: object, order: object) -> PickledArray:
    array = PickledArray()
    array.fill(shape, dtype, data)
    return array


def _scalar(dtype: object, data: object) -> Any:
    array = PickledArray()
    array.fill((1,), dtype, data)
    return array.tolist()[0]


def _encode(text: object, encoding: object) -> bytes:
    """How Python 3 writes bytes in protocols 0 to 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unusual encoding")
    return text.encode("latin-1")


def _text(value: object) -> object:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _as_bytes(data: object) -> bytes:
    """Raw values; Python 2's are text in Python 3's eyes."""
    if isinstance(data, str):
        return data.encode("latin-1")
    if not isinstance(data, (bytes, bytearray)):
        raise ValueError("an array without bytes")
    return bytes(data)


def _read_string(stream: io.BytesIO) -> str:
    """Python 2's text of protocol 0: quoted, escaped; pickletools reads only ASCII."""
    line = stream.readline()
    if len(line) < 3 or line[:1] not in (b"'", b'"') or line[-2:] != line[:1] + b"\n":
        raise ValueError("text without quotes")
    return codecs.escape_decode(line[1:-2])[0].decode("latin-1")


def _protocol(machine: _Machine, number: int) -> None:
    if number > NEWEST_PROTOCOL:
        raise ValueError(f"protocol {number} is unknown")


def _dict(machine: _Machine, _: Any) -> None:
    """Protocol 0's dict."""
    items = machine.since_mark()
    machine.push({})
    machine.set_items(items)


_CALLS: dict[str, Callable[..., Any]] = {
    "dtype": _dtype,
    "array": _array,
    "scalar": _scalar,
    "frombuffer": _frombuffer,
    "encode": _encode,
    "bytes": lambda: b"",
}

_VALUES = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)
"""Instructions that push their argument."""

_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(_VALUES.split(), _Machine.push),
    "PROTO": _protocol,
    "FRAME": lambda machine, _: None,
    "MARK": _Machine.mark,
    "POP": lambda machine, _: machine.last(1).clear(),
    "POP_MARK": lambda machine, _: machine.since_mark().clear(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "DICT": _dict,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": lambda machine, _: machine.extend(machine.last(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.last(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "PUT": lambda machine, row: machine.memo.update({row: machine.stack[-1]}),
    "BINPUT": lambda machine, row: machine.memo.update({row: machine.stack[-1]}),
    "LONG_BINPUT": lambda machine, row: machine.memo.update({row: machine.stack[-1]}),
    "MEMOIZE": lambda machine, _: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    "GET": lambda machine, row: machine.push(machine.memo[row]),
    "BINGET": lambda machine, row: machine.push(machine.memo[row]),
    "LONG_BINGET": lambda machine, row: machine.push(machine.memo[row]),
    "GLOBAL": lambda machine, name: machine.name(name.replace(" ", ".")),
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}
"""What each instruction does; any other is refused."""

_READERS: dict[str, Callable[[io.BytesIO], Any]] = {"STRING": _read_string}
_STEPS = {
    code.code.encode("latin-1"): (
        _ACTIONS[code.name],
        _READERS.get(code.name, code.arg.reader if code.arg else None),
    )
    for code in pickletools.opcodes
    if code.name in _ACTIONS
}
"""By instruction: what it does, and how its argument is read, which never takes more than the file holds."""
