"""Weights by URL: cached by the whole address, never without a check, and every failure is one line."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from retrieval.networks import downloads
from retrieval.networks.downloads import fetched
from retrieval.networks.weights import read_weights
from sfm2tuples.errors import UsageError, WeightsError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's cache, empty."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """The folder that the server's addresses lead to."""
    (tmp_path / "www").mkdir()
    return tmp_path / "www"


@pytest.fixture
def address(served: Path) -> Iterator[str]:
    """Of a server, until the test ends."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def answering(answer: bytes | None) -> Iterator[str]:
    """The address of something that listens, and answers with these bytes, or is silent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def serve() -> None:
            connection, _ = listening.accept()
            held.append(connection)
            if answer is not None:
                connection.recv(999)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/w.pth"
        thread.join()
        for connection in held:
            connection.close()


def put(path: Path, value: float) -> str:
    """Write weights; the SHA-256 of the file."""
    path.parent.mkdir(exist_ok=True)
    torch.save({"a": torch.full((3,), value)}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def value_at(url: str) -> float:
    return float(read_weights(url)["a"][0])


def refused(url: str, match: str) -> None:
    with pytest.raises(WeightsError, match=match) as caught:
        read_weights(url)
    assert "\n" not in str(caught.value)


def test_two_addresses_that_end_alike_are_two_files(served, address):
    put(served / "a" / "w.pth", 1.0)
    put(served / "b" / "w.pth", 2.0)
    assert [value_at(f"{address}/{folder}/w.pth") for folder in "aba"] == [1.0, 2.0, 1.0]
    assert value_at(f"{address}/a/w.pth?version=2") == 1.0


def test_a_file_is_downloaded_once_and_its_name_says_from_where(served, address, cache):
    digest = put(served / "w.pth", 1.0)
    path = fetched(f"{address}/w.pth")
    assert path.parent == cache
    key = hashlib.sha256(f"{address}/w.pth".encode()).hexdigest()
    assert path.name == f"{key[:16]}-{digest[:16]}-w.pth"
    (served / "w.pth").unlink()
    assert value_at(f"{address}/w.pth") == 1.0
    assert list(cache.iterdir()) == [path]


def test_a_cached_file_that_was_changed_is_downloaded_again(served, address):
    put(served / "w.pth", 1.0)
    put(fetched(f"{address}/w.pth"), 2.0)
    assert value_at(f"{address}/w.pth") == 1.0


@pytest.mark.parametrize("digits", [8, 64])
def test_the_hash_in_a_name_or_behind_the_address_is_checked(served, address, digits):
    digest = put(served / "w.pth", 1.0)[:digits]
    (served / f"w-{digest}.pth").write_bytes((served / "w.pth").read_bytes())
    (served / "v-00000000.pth").write_bytes((served / "w.pth").read_bytes())
    assert value_at(f"{address}/w.pth#sha256={digest.upper()}") == 1.0
    assert value_at(f"{address}/w-{digest}.pth") == 1.0
    refused(f"{address}/v-00000000.pth", f"hash is {digest[:8]}, should be 00000000")
    refused(f"{address}/w.pth#sha256={digest[::-1]}", "hash is")
    refused((served / "v-00000000.pth").as_uri(), "hash is")
    with pytest.raises(UsageError, match="behind #"):
        read_weights(f"{address}/w.pth#md5=12")


def test_a_file_that_torch_cached_by_name_counts_only_with_its_hash(served, address, cache):
    name = f"w-{put(served / 'w.pth', 1.0)[:8]}.pth"
    (served / "w.pth").rename(served / name)
    cache.mkdir(parents=True)
    put(cache / name, 2.0)
    assert value_at(f"{address}/{name}") == 1.0
    for path in cache.iterdir():
        path.unlink()
    (served / name).rename(cache / name)
    assert value_at(f"{address}/{name}") == 1.0


def test_no_zip_is_unpacked(served, address, cache):
    import zipfile

    put(served / "inner.pth", 1.0)
    with zipfile.ZipFile(served / "w.pth", "w") as archive:
        archive.write(served / "inner.pth", "squeezenet1_1-b8a52dc0.pth")
    refused(f"{address}/w.pth", rf"cannot be read as a file of PyTorch .*the file is {cache}")
    assert all(path.name.endswith("-w.pth") for path in cache.iterdir())


def test_a_local_address_is_read_where_it_lies(served, cache):
    put(served / "w.pth", 1.0)
    url = (served / "w.pth").as_uri()
    assert value_at(url) == 1.0
    put(served / "w.pth", 2.0)
    assert value_at(url) == 2.0
    assert not cache.exists()
    refused((served / "none.pth").as_uri(), "no such file")
    refused("file:///etc/passwd", "plain containers|PyTorch")


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\nhalf", b""])
def test_an_answer_that_is_no_whole_file_is_one_line_and_leaves_nothing(answer, cache):
    with answering(answer) as url:
        refused(url, "cannot be fetched")
    assert list(cache.iterdir()) == []


def test_a_silent_server_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    with answering(None) as url:
        refused(url, r"cannot be fetched \(timed out\)")


@pytest.mark.parametrize("url", ["http://a b/x", "http://[x/w.pth", "nothing://w.pth", "http://127.0.0.1:1/w.pth"])
def test_an_address_that_leads_nowhere_is_one_line(url):
    refused(url, "give a file to --weights")


def test_an_absent_page_is_one_line(served, address):
    refused(f"{address}/none.pth", "cannot be fetched .*404")
