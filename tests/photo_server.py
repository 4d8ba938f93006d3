"""A file server on this machine for tests of photos elsewhere: slow, failing or without lists, as a test wants it."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

HANG, CUT = -1, -2
"""Faults beside a status: no answer, and half of the bytes."""


class PhotoServer:
    """Serves a folder; `faults` says of a path below it with what the next requests for it are answered."""

    def __init__(self, folder: Path, delay: float = 0.0) -> None:
        self.faults: dict[str, list[int]] = defaultdict(list)
        self.lists = True
        """Whether folders are listed."""
        self.page = ""
        """What stands in the place of each folder's own list, where it is not empty."""
        self.delay = delay
        """Seconds before each answer."""
        self.asked: Counter[str] = Counter()
        """How often each path was asked for, by whatever method."""
        self.most_at_once = 0
        """Requests that were under way at a time."""
        self.under_way = 0
        self.lock = threading.Lock()
        self.go_on = threading.Event()
        handler = functools.partial(_Handler, server_of=self, directory=str(folder))
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True

    @property
    def url(self) -> str:
        """Address of the folder."""
        return f"http://127.0.0.1:{self.http.server_port}"


@contextmanager
def served(folder: Path, delay: float = 0.0) -> Iterator[PhotoServer]:
    """A server of a folder, which ends with the context."""
    server = PhotoServer(folder, delay)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, *arguments: object, server_of: PhotoServer, **named: object) -> None:
        self.of = server_of
        super().__init__(*arguments, **named)  # type: ignore[arg-type]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(super().do_HEAD)

    def do_GET(self) -> None:
        self._answer(super().do_GET)

    def _answer(self, usual: object) -> None:
        path, of = unquote(self.path).lstrip("/"), self.of
        with of.lock:
            of.asked[path] += 1
            of.under_way += 1
            of.most_at_once = max(of.most_at_once, of.under_way)
            fault = of.faults[path].pop(0) if of.faults[path] else 0
        time.sleep(of.delay)
        try:
            if fault == HANG:
                of.go_on.wait()
                self.close_connection = True
            elif fault == CUT:
                content = Path(self.translate_path(self.path)).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            elif fault:
                self.send_error(fault)
            elif not of.lists and path.endswith("/"):
                self.send_error(403)
            elif of.page and path.endswith("/"):
                content = of.page.encode("utf-8", "surrogateescape")
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            else:
                usual()  # type: ignore[operator]
        except OSError:
            self.close_connection = True
        finally:
            with of.lock:
                of.under_way -= 1
