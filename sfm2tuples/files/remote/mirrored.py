"""Files elsewhere under paths of this machine: a folder of their names, and of their bytes where these are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from sfm2tuples.errors import ModelError
from sfm2tuples.files.remote.address import Address
from sfm2tuples.files.remote.reading import FetchError, fetch_file, in_threads


@dataclass(frozen=True)
class Mirrored:
    """A machine or bucket in a mirror: `TOP/https/host/a/b` stands for `https://host/a/b`."""

    top: Path
    """The mirror; absolute."""
    machine: Address
    """The machine or bucket, with its credentials."""

    def path(self, address: Address) -> Path:
        """Where an address of the machine is in the mirror."""
        return Path(self.top, address.scheme, address.host, *address.parts[1:])

    def holds(self, path: Path) -> bool:
        """Whether a path is in the mirror."""
        return path.is_relative_to(self.top)

    def address(self, path: Path) -> Address:
        """What a path in the mirror stands for."""
        below = path.relative_to(self.top / self.machine.scheme / self.machine.host)
        return replace(self.machine, path="") / below

    @contextmanager
    def fetched(self, files: Sequence[tuple[Path, int]], path: Path) -> Iterator[Path]:
        """Fetch files of the mirror into a temporary folder; `path` as it is there. Removed with the context.

        The mirror itself is not looked into: it may lie on another machine than this one.

        Parameters
        ----------
        files : sequence of (Path, int)
            Paths in the mirror, and the bytes of each, 0 where they are not known.
        path : Path
            In the mirror.

        Raises
        ------
        ModelError
            A file does not come, or what reads it raises one; it names the address.
        UnreachableError
            The machine has never answered.
        """
        with TemporaryDirectory(prefix="sfm2tuples-") as folder:

            def fetch(file: tuple[Path, int]) -> None:
                target = Path(folder, file[0].relative_to(self.top))
                target.parent.mkdir(parents=True, exist_ok=True)
                fetch_file(self.address(file[0]), target, file[1] or None)

            try:
                list(in_threads(fetch, files))
                yield Path(folder, path.relative_to(self.top))
            except FetchError as error:
                raise ModelError(error.path, f"does not come ({error.what})") from error
            except ModelError as error:
                raise type(error)(self.restated(error.path, Path(folder)), error.what, error.remedy) from error

    def restated(self, text: str, top: Path | None = None) -> str:
        """A path below a mirror as the address that it stands for; any other text as it is."""
        path, top = Path(text), top or self.top
        machine = top / self.machine.scheme / self.machine.host
        return str(self.address(self.top / path.relative_to(top))) if path.is_relative_to(machine) else text
