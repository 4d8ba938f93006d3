"""Weights by URL: downloaded once into torch's cache, and checked each time that they are read.

A cached file is called ``KEY-CONTENT-NAME``: 16 digits of the hash of the whole URL, 16 of the hash of the content, and
the last part of the address. So two addresses never share a file, and a file that was changed is downloaded again.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import secrets
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

import torch

from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.errors import UsageError, WeightsError, one_line

TIMEOUT = 15.0
"""Seconds that a server may be silent."""
BLOCK = 1 << 20
"""Bytes that are read at a time."""
_NAMED_HASH = re.compile(r"-([0-9a-f]{8,64})\.[^./]*$")
"""The SHA-256, or its beginning, in a file's name, as torch publishes its weights."""
_GIVEN_HASH = re.compile(r"sha256=([0-9A-Fa-f]{8,64})")
_LONGEST_NAME = 100

logger = logging.getLogger(__name__)


def is_url(source: str | Path) -> bool:
    """Whether weights are asked for by address."""
    return "://" in str(source)


def without_hash(source: str | Path) -> str:
    """An address without its ``#sha256=``; a path as it is."""
    return str(source).partition("#")[0] if is_url(source) else str(source)


def fetched(url: str) -> Path:
    """The file that lies at an address, downloaded where the cache does not have it whole.

    Parameters
    ----------
    url : str
        http, https, ftp, or file (read where it lies). ``#sha256=`` and 8 to 64 digits behind it is the hash that the
        file must have; else the one in its name (``resnet18-f37072fd.pth``); else none is asked for.

    Returns
    -------
    Path
        In torch's cache (``TORCH_HOME``), or the file itself.

    Raises
    ------
    UsageError
        What stands behind ``#`` is no hash.
    WeightsError
        The file cannot be fetched, is cut short, or has another hash.
    """
    address, _, fragment = url.partition("#")
    given = _GIVEN_HASH.fullmatch(fragment)
    if fragment and given is None:
        raise UsageError(f"--weights {one_line(url)}: behind # stands sha256= and 8 to 64 digits of the file's hash")
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise WeightsError(url, f"is no address ({error})", "give a file to --weights") from error
    name = Path(unquote(parts.path)).name
    named = _NAMED_HASH.search(name)
    wanted = given[1].lower() if given else named[1] if named else ""
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return _checked(Path(urllib.request.url2pathname(parts.path)), url, wanted)
    return _cached(address, name, wanted) or _download(url, address, name, wanted)


def _checked(path: Path, url: str, wanted: str) -> Path:
    """A local file that has the hash."""
    try:
        found = _hash(path) if wanted else ""
    except OSError as error:
        raise WeightsError(url, f"cannot be read ({error.strerror})", "give another file to --weights") from error
    if not found.startswith(wanted):
        raise _other_hash(url, wanted, found)
    return path


def _cached(address: str, name: str, wanted: str) -> Path | None:
    """A cached file whose content is what its name says and what is wanted; None where there is none."""
    cache = _cache()
    for path in sorted(cache.glob(f"{_key(address)}-*")):
        digest = _hash(path)
        if path.name.split("-")[1] == digest[:16] and digest.startswith(wanted):
            return path
    # torch itself and torchvision cache by name alone. Only a hash says that such a file is the right one.
    if wanted and name and (cache / name).is_file() and _hash(cache / name).startswith(wanted):
        return cache / name
    return None


def _download(url: str, address: str, name: str, wanted: str) -> Path:
    """Receive the file beside its place in the cache, and give it its name once it is whole."""
    cache, key = _cache(), _key(address)
    temporary = cache / f".{key}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        digest = _receive(address, name, temporary)
        if not digest.startswith(wanted):
            raise _other_hash(url, wanted, digest)
        path = cache / f"{key}-{digest[:16]}-{re.sub('[^A-Za-z0-9._-]', '_', name)[-_LONGEST_NAME:]}"
        os.replace(temporary, path)
    # HTTPException: an answer that is no HTTP, or a blank in the address. ValueError: an address that is none.
    except (OSError, http.client.HTTPException, ValueError) as error:
        what = f"cannot be fetched ({_reason(error)})"
        raise WeightsError(url, what, "give a file to --weights") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    logger.info("%s lies in %s now", one_line(address), path)
    return path


def _receive(address: str, name: str, path: Path) -> str:
    """Write what a server sends into a file, on the disk; the SHA-256 of it."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, path.open("xb") as file:
        length = answer.headers.get("Content-Length") or ""
        expected = int(length) if length.isdecimal() else None
        with ProgressBar(total=expected, desc=name[-30:], unit="B", unit_scale=True) as bar:
            while block := answer.read(BLOCK):
                file.write(block)
                digest.update(block)
                bar.update(len(block))
        if expected is not None and file.tell() != expected:
            raise OSError(f"{file.tell():,} of {expected:,} bytes came")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _key(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _other_hash(url: str, wanted: str, found: str) -> WeightsError:
    what = f"the file's hash is {found[: len(wanted)]}, should be {wanted}"
    return WeightsError(url, what, "it is another file, or was damaged on its way")


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return (str(reason).splitlines() or [""])[0][:200] or type(error).__name__
