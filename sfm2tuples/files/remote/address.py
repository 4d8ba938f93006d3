"""Where a file or folder of another machine lies. An address behaves like a path as far as photos need it."""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote

from sfm2tuples.errors import UsageError, one_line

PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "memory": "fsspec"}
"""Scheme to the package that reads it. `memory` is fsspec's file system of one process, for tests and scripts."""
QUOTED = ("http", "https")
"""Schemes whose paths are written with percent signs."""
_PLAIN = "@:!$&'()*,;="
"""What is not quoted besides letters, digits and -._~; a plus sign is, since some stores take it for a space."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Address:
    """A file or folder elsewhere; as text it never shows credentials."""

    scheme: str
    """A key of `PACKAGES`."""
    host: str
    """Machine and port, or bucket."""
    path: str = ""
    """What follows, from its first slash on; quoted for `QUOTED`, else as it is. No slash at its end."""
    user: str = field(default="", repr=False)
    """`user:password` of an http address, for the server alone."""
    query: str = field(default="", repr=False)
    """What followed a question mark, such as a signature, for the server alone."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address as people write it.

        Raises
        ------
        UsageError
            An unknown scheme, no host, or credentials where they do not belong.
        """
        found = _SCHEME.match(text)
        scheme = found.group(1).lower() if found else ""
        scheme = {"gcs": "gs", "s3a": "s3"}.get(scheme, scheme)
        rest = text[found.end() :] if found else text
        host, slash, path = rest.partition("/")
        user, _, host = host.rpartition("@")
        query = ""
        if scheme in QUOTED:
            host, _, early = host.partition("?")  # https://host?signature
            path, _, late = path.partition("?")
            # A percent sign that quotes stays one, any other is quoted.
            path, query = _below("", (_quoted(unquote(part)) for part in path.split("/"))), early or late
        else:
            path = (slash + path).rstrip("/")
        address = cls(scheme, host, path, user, query)
        if scheme not in PACKAGES:
            known = ", ".join(f"{name}://" for name in PACKAGES if name != "memory")
            raise UsageError(one_line(f"{address}: such an address cannot be read; known are {known}"))
        if not host:
            raise UsageError(one_line(f"{address}: names no {'host' if scheme in QUOTED else 'bucket'}"))
        if user and scheme not in QUOTED:
            raise UsageError(f"{address}: credentials of a bucket come from the environment, not from its address")
        return address

    def __str__(self) -> str:
        """The address for people and files, without credentials."""
        return f"{self.scheme}://{self.host}{self.path}"

    def __truediv__(self, name: str | Path) -> Address:
        """What lies below under a name, which is not quoted: spaces and percent signs mean themselves."""
        parts = str(name).split("/")
        return replace(self, path=_below(self.path, map(_quoted, parts) if self.scheme in QUOTED else parts))

    @property
    def name(self) -> str:
        """The last part, not quoted; the host where there is none."""
        last = self.path.rsplit("/", 1)[-1]
        return (unquote(last, errors="surrogateescape") if self.scheme in QUOTED else last) or self.host

    @property
    def suffix(self) -> str:
        """What follows the name's last dot, with the dot."""
        return posixpath.splitext(self.name)[1]

    @property
    def parts(self) -> tuple[str, ...]:
        """The machine and the parts of the path, not quoted."""
        parts = [part for part in self.path.split("/") if part]
        quoted = self.scheme in QUOTED
        names = [unquote(part, errors="surrogateescape") for part in parts] if quoted else parts
        return (f"{self.scheme}://{self.host}", *names)

    @property
    def parent(self) -> Address:
        """The folder that it lies in; of a whole host or bucket itself."""
        return replace(self, path=self.path.rpartition("/")[0])

    def is_below(self, other: Address) -> bool:
        """Whether it is another address or lies below it."""
        return (self.scheme, self.host) == (other.scheme, other.host) and f"{self.path}/".startswith(f"{other.path}/")

    @property
    def url(self) -> str:
        """The address for whoever reads it, with its credentials."""
        user = f"{self.user}@" if self.user else ""
        return f"{self.scheme}://{user}{self.host}{self.path}{f'?{self.query}' if self.query else ''}"


def _below(path: str, parts: Iterable[str]) -> str:
    """What parts of a name lead to from a path, which stays as it is: a bucket may hold `a//b`."""
    for part in parts:
        if part == "..":
            path = path.rpartition("/")[0]
        elif part not in ("", "."):
            path += f"/{part}"
    return path


def _quoted(part: str) -> str:
    return quote(part, safe=_PLAIN, errors="surrogateescape")


AnyPath = Path | Address
"""Of this machine or of another one."""


def is_address(text: object) -> bool:
    """Whether a text is an address, such as ``https://host/photos``, and no path of this machine."""
    return isinstance(text, str) and _SCHEME.match(text) is not None


def as_local(address: Address) -> str:
    """A path that an address would have here, for names: ``/https/host/photos``; not quoted."""
    return "/".join(["", address.scheme, address.host, *address.parts[1:]])


def without_credentials(text: str) -> str:
    """An address, which may be of an unknown kind, as a message may show it."""
    return re.sub(r"//[^/]*@", "//", text.partition("?")[0])


@functools.lru_cache(maxsize=4096)
def path_or_address(text: str) -> AnyPath:
    """What a text names: an address where it begins with a scheme, else a path of this machine."""
    return Address.parse(text) if is_address(text) else Path(text)


def photo_at(root: str | AnyPath, name: str) -> AnyPath:
    """Where a photo lies, by its folder as files of ours write it, and its name below."""
    folder = path_or_address(root) if isinstance(root, str) else root
    return folder / name


def is_folder(path: AnyPath) -> bool:
    """Whether a path is a folder. An address counts as one: lists, tables and files of ours are of this machine."""
    return isinstance(path, Address) or path.is_dir()


def any_elsewhere(paths: Iterable[object]) -> bool:
    """Whether one of some paths is an address."""
    return any(isinstance(path, Address) for path in paths)


def written(path: AnyPath, absolute: Callable[[Path], str] = lambda path: str(path.resolve())) -> str:
    """A path as files of ours write it: absolute, an address without credentials."""
    return str(path) if isinstance(path, Address) else absolute(path)


def require_packages(address: Address) -> None:
    """Refuse an address where the package that reads it is not installed.

    Raises
    ------
    UsageError
    """
    for package in ("fsspec", PACKAGES[address.scheme]):
        if find_spec(package) is None:
            what = f"reading {address.scheme}:// needs the package {package}"
            raise UsageError(f"{address}: {what}; pip install 'sfm2tuples[remote]'")
