"""Links of a web server's page of a folder, and what they name right below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

PORTS = {"http": 80, "https": 443}
"""What an address without a port means."""


@dataclass(frozen=True)
class FolderPage:
    """What a server answers that is asked for a folder."""

    url: str
    """Where it came from in the end: a server may send us on."""
    text: str
    """HTML; empty where it is something else. Bytes that are no UTF-8 stand there as in Python's names of files."""


@dataclass
class _Links(HTMLParser):
    """Collects where the links of a page lead, as they are written."""

    found: list[str] = field(default_factory=list)
    base: str = ""
    """What the page says its links are relative to."""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if target and tag == "a":
            self.found.append(target.strip())
        elif target and tag == "base":
            self.base = self.base or target.strip()

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """A browser takes ``<![`` of whatever kind for a comment, Python before 3.14 for a fault."""
        return self.parse_bogus_comment(i)


def names_below(page: FolderPage, folder: str) -> Iterator[tuple[str, bool]]:
    """What the links of a page name right below a folder, not quoted, and whether each is a folder.

    Parameters
    ----------
    page : FolderPage
    folder : str
        Address that was asked for. A link may lead below it or below where the page came from, by http or https, and
        quoted in any way. A link with a question mark or a fragment sorts the list, and names nothing.
    """
    links = _Links()
    links.feed(page.text)
    links.close()
    parents = [_place(urlsplit(url)) for url in (folder, page.url)]
    for target in links.found:
        try:
            link = urlsplit(urljoin(urljoin(page.url, links.base), target))
            host, path = _place(link)
        except ValueError:
            continue  # such as http://[
        if link.query or link.fragment or link.scheme not in PORTS or not path:
            continue
        name = path[-1]
        if (host, path[:-1]) in parents and name not in (".", "..") and not set("/\0") & set(name):
            yield name, link.path.endswith("/")


def _place(url: SplitResult) -> tuple[tuple[str, int | None], list[str]]:
    """Machine and path of an address, however it is quoted. A port that its scheme means by itself is None."""
    port = None if url.port == PORTS.get(url.scheme) else url.port
    parts = [unquote(part, errors="surrogateescape") for part in url.path.split("/") if part]
    return (url.hostname or "", port), parts
