"""Bytes from other machines: tried again where that may help, each try within a time limit.

A call is made in the thread that asks, and waits there; whoever wants many files asks in `AT_ONCE` threads.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sfm2tuples.compute.threads import map_in_order
from sfm2tuples.errors import DataError, first_line
from sfm2tuples.files.remote.address import QUOTED, Address, require_packages
from sfm2tuples.files.remote.links import FolderPage

T = TypeVar("T")
R = TypeVar("R")
AT_ONCE = 16
"""Threads that read from elsewhere: they wait for the network, not for a core."""
TRIES = 4
"""How often a read is tried."""
PAUSE = 0.5
"""Seconds before the second try; each further pause is twice as long."""
SECONDS = 60.0
"""A try is given up after so long."""
BYTES_A_SECOND = 1 << 20
"""A try to fetch a large file may take longer: as long as this speed needs."""
CONNECT_SECONDS = 10.0
"""A connection is given up after so long."""
VERSIONS = ("ETag", "etag", "Last-Modified", "LastModified", "mtime")
"""What servers call that which differs between two versions of a file; the first that is said counts."""
HTML = ("text/html", "application/xhtml+xml")
"""Types of pages."""
_TRIED_AGAIN = (408, 425, 429)
"""Answers below 500 that are tried again: too slow, too early, too many."""
_answered: set[tuple[str, str]] = set()
"""Schemes and hosts that have answered this process, whatever it was."""


class FetchError(DataError):
    """A file elsewhere that does not come, from a host that has answered before."""


class AbsentError(FetchError):
    """A file elsewhere that is not there."""


class UnreachableError(DataError):
    """A host that has never answered."""


def read_bytes(address: Address, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of a file, or those from `start` to `end`; a server may send all of them all the same.

    Raises
    ------
    FetchError
        It does not come, for the reason that the last try gave; AbsentError where there is no such file.
    UnreachableError
        The host has never answered.
    UsageError
        The package that reads such an address is not installed.
    """
    limits: dict[str, Any] = {} if start is None and end is None else {"start": start, "end": end}
    return bytes(_call(address, "cat_file", SECONDS, **limits))


def file_facts(address: Address) -> dict[str, Any]:
    """What a server says of a file: ``size`` in bytes or None, and perhaps a time or tag of its content.

    Errors as for `read_bytes`.
    """
    return dict(_call(address, "info", SECONDS))


def version_of(facts: dict[str, Any]) -> tuple[int, int]:
    """Size of a file, -1 where its server does not say it, and a number that stands for its version."""
    version = next((str(facts[tag]) for tag in VERSIONS if tag in facts), "")
    size = facts.get("size")
    return -1 if size is None else int(size), int.from_bytes(hashlib.sha256(version.encode()).digest()[:4], "big")


def entries_of(folder: Address) -> list[dict[str, Any]]:
    """What a bucket lists right below a folder, as fsspec has it; errors as for `read_bytes`."""
    return list(_call(folder, "ls", SECONDS, detail=True))


def folder_page(folder: Address) -> FolderPage:
    """What a web server answers that is asked for a folder; errors as for `read_bytes`."""
    page: FolderPage = _call(folder, "page", SECONDS, folder=True)
    return page


def fetch_file(address: Address, target: Path, size: int | None) -> None:
    """Write a file to this machine; `size`, its bytes where they are known, decides how long that may take.

    Errors as for `read_bytes`; what is there of a file that came in part is written over or left.
    """
    seconds = 10 * SECONDS if size is None else SECONDS + size / BYTES_A_SECOND
    _call(address, "get_file", seconds, lpath=str(target))


def in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """The work's value for each item, in order, `AT_ONCE` under way; items are taken as they are needed."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="read") as pool:
        yield from map_in_order(pool, work, items, ahead=2 * AT_ONCE, a_task=1)


def _call(address: Address, method: str, seconds: float, folder: bool = False, **arguments: Any) -> Any:
    """Call a method of the file system that an address is of, as often as may help."""
    require_packages(address)
    file_system = _file_system(address.scheme, os.getpid())
    path = _path_of(address, folder)
    turn = 0
    while True:
        turn += 1
        try:
            result = _try(file_system, method, path, seconds, arguments)
        except Exception as error:  # botocore's and aiohttp's errors have no root in common with each other
            reason, again = _what_is_wrong(error, seconds)
            if _is_answer(error):
                _answered.add((address.scheme, address.host))
            if not again or turn == TRIES:
                raise _given_up(address, reason, error, turn) from error
            time.sleep(PAUSE * 2 ** (turn - 1))
        else:
            _answered.add((address.scheme, address.host))
            return result


def _try(file_system: Any, method: str, path: str, seconds: float, arguments: dict[str, Any]) -> Any:
    if not file_system.async_impl:
        return getattr(file_system, method)(path, **arguments)
    from fsspec.asyn import sync

    own = _BY_HTTP.get(method) if file_system.protocol[0] in QUOTED else None
    call = functools.partial(own, file_system) if own else getattr(file_system, f"_{method}")
    # It is cancelled after these seconds, so that nothing of it is left.
    return sync(file_system.loop, call, path, timeout=seconds, **arguments)


async def _facts_by_http(file_system: Any, url: str) -> dict[str, Any]:
    """Size and time of a file by its headers; fsspec's own `info` says of any fault that there is no such file."""
    session = await file_system.set_session()
    for ask in (session.head, session.get):  # some servers answer no HEAD; of GET the bytes are not waited for
        plain = {"Accept-Encoding": "identity"}
        async with ask(file_system.encode_url(url), headers=plain, allow_redirects=True) as answer:
            if answer.status in (403, 405, 501) and ask == session.head:
                continue
            file_system._raise_not_found_for_status(answer, url)
            told = {name: answer.headers.get(name) for name in ("ETag", "Last-Modified")}
            return {"size": answer.content_length, **{name: value for name, value in told.items() if value}}
    raise FileNotFoundError(url)


async def _page_by_http(file_system: Any, url: str) -> FolderPage:
    """The page of a folder; fsspec's own `ls` misses links that are quoted in other ways than the folder."""
    session = await file_system.set_session()
    async with session.get(file_system.encode_url(url)) as answer:
        file_system._raise_not_found_for_status(answer, url)
        is_html = answer.headers.get("Content-Type", HTML[0]).partition(";")[0].strip().lower() in HTML
        # What is no page may be a file of any size, which is not waited for.
        content = await answer.read() if is_html else b""
        return FolderPage(str(answer.url), content.decode("utf-8", "surrogateescape"))


_BY_HTTP: dict[str, Callable[..., Any]] = {"info": _facts_by_http, "page": _page_by_http}
"""What is asked of web servers here, and not by fsspec."""


@functools.cache
def _file_system(scheme: str, process: int) -> Any:
    """fsspec's file system of a scheme; one for each process, since connections do not survive a fork."""
    import fsspec

    if scheme not in QUOTED:
        return fsspec.filesystem(scheme, skip_instance_cache=scheme != "memory")
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
    # The environment names proxies, and ~/.netrc names and passwords.
    client = {"timeout": timeout, "trust_env": True}
    # Addresses are quoted here: what yarl would do to a percent sign in a name is another name.
    return fsspec.filesystem(scheme, encoded=True, client_kwargs=client, skip_instance_cache=True)


def _path_of(address: Address, folder: bool) -> str:
    if address.scheme not in QUOTED:
        return address.host + address.path
    # A server that is asked for a folder without the slash sends us on, which costs a turn.
    head, mark, query = address.url.partition("?")
    return f"{head}{'/' if folder else ''}{mark}{query}"


def _what_is_wrong(error: Exception, seconds: float) -> tuple[str, bool]:
    """The reason in a few words, and whether another try may help."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and status:
        what = f"the server answers {status} {getattr(error, 'message', '')}".rstrip()
        return what, status >= 500 or status in _TRIED_AGAIN
    if isinstance(error, FileNotFoundError):
        return "is not there", False
    if isinstance(error, PermissionError):
        return "access is denied", False
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return first_line(error), False
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return f"no answer within {seconds:g} s", True
    if _is_cut_short(error):
        return "the answer was cut short", True
    cause = getattr(error, "os_error", None)  # aiohttp's, of a connection that is not made
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror), True
    return first_line(error), True


def _is_cut_short(error: Exception) -> bool:
    return type(error).__name__ in ("ClientPayloadError", "ContentLengthError", "IncompleteRead")


def _is_answer(error: Exception) -> bool:
    """Whether an error shows that somebody is there."""
    return isinstance(error, FileNotFoundError | PermissionError) or _is_cut_short(error) or hasattr(error, "status")


def _given_up(address: Address, reason: str, error: Exception, tries: int) -> DataError:
    if isinstance(error, FileNotFoundError):
        return AbsentError(address, reason)
    if (address.scheme, address.host) not in _answered:
        whole = Address(address.scheme, address.host)
        remedy = "check the address, the network and the credentials"
        return UnreachableError(str(whole), f"cannot be reached ({reason}, asked for {address.name})", remedy)
    return FetchError(address, reason if tries == 1 else f"{reason}, {tries} tries")
