"""Ctrl-C: while modules are imported the program ends at once, while a command works it is a KeyboardInterrupt.

An exception in the middle of an import may come out as another one, or not at all: Python drops it where it removes an
object. So nothing is raised there; nothing is open yet that could be lost. Imports little, since it comes first.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

SAID, CODE = "interrupted", 130
_SEEN: list[int] = []
"""The signals that came while a command worked."""
_ENDED: list[int] = []
"""The exit code of a command that ended by an interruption."""


def leave(number: int = 0, frame: FrameType | None = None) -> None:
    """End the program at once, with the line and the exit code of an interruption."""
    os.write(2, f"{SAID}\n".encode())
    os._exit(CODE)


def leave_at_once() -> None:
    """From now on Ctrl-C is `leave`; not where it is ignored, as by commands that a shell starts in the background."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


def raise_from_now_on() -> None:
    """From now on Ctrl-C is a KeyboardInterrupt: a command has something to tidy up."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, _note_and_raise)


def was_asked() -> bool:
    """Whether Ctrl-C came while the command worked, whatever error that ended as."""
    return bool(_SEEN)


def end(how_to_go_on: str = "") -> NoReturn:
    """Say that the command was interrupted, and exit."""
    sys.stderr.write(SAID + (f": {how_to_go_on}" if how_to_go_on else "") + "\n")
    _ENDED.append(CODE)
    sys.exit(CODE)


def keep_exit_code() -> None:
    """At the very end: an interrupted `python -m` has its exit code even where Python would end by the signal."""
    if _ENDED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_ENDED[0])


def _note_and_raise(number: int, frame: FrameType | None) -> None:
    _SEEN.append(number)
    raise KeyboardInterrupt
