"""Files in an object store, through fsspec: whole or an error; what fails is tried again."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

from jaxattack.errors import UserError

WAITS = (1.0, 4.0, 16.0)  # seconds before what failed is tried again
LASTING = (PermissionError, NotADirectoryError, IsADirectoryError)  # what no wait mends
EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}  # protocol -> extra of the package

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Store:
    """A place in an object store; names of files are relative to it.

    Every method raises a `UserError` when the store fails again and again.

    Attributes:
        url: as the user wrote it.
        files: a file system of fsspec.
        root: the place's path in it.
    """

    url: str
    files: Any
    root: str

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None if there is none."""

        def act() -> bytes | None:
            try:
                return self.files.cat_file(f"{self.root}/{name}")
            except FileNotFoundError:
                return None

        return self._tried(f"read {name}", act)

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        self._tried(f"write {name}", lambda: self.files.pipe_file(f"{self.root}/{name}", content))

    def put(self, name: str, path: pathlib.Path) -> None:
        """Upload a file, and see that all of it is there."""

        def act() -> None:
            self.files.put_file(str(path), f"{self.root}/{name}")
            wanted, found = path.stat().st_size, self.files.size(f"{self.root}/{name}")
            if found != wanted:
                raise OSError(f"{found} bytes arrived of {wanted}")

        self._tried(f"write {name}", act)

    def get(self, name: str, path: pathlib.Path) -> bool:
        """Download a file for its owner alone; whether there is one."""

        def act() -> bool:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o600)
            try:
                self.files.get_file(f"{self.root}/{name}", str(path))
            except FileNotFoundError:
                return False
            path.chmod(0o600)  # who may read the original is not known here
            return True

        return self._tried(f"read {name}", act)

    def remove(self, name: str, whole: bool = False) -> None:
        """Take a file away, if it is there; `whole`: a folder with all that is in it."""

        def act() -> None:
            with contextlib.suppress(FileNotFoundError):
                if whole:
                    self.files.rm(f"{self.root}/{name}", recursive=True)
                else:
                    self.files.rm_file(f"{self.root}/{name}")

        self._tried(f"remove {name}", act)

    def matching(self, pattern: str) -> list[str]:
        """The names that match a pattern with asterisks, each within one level."""
        found = self._tried("list", lambda: self.files.glob(f"{self.root}/{pattern}"))
        depth = pattern.count("/") + 1
        return ["/".join(str(path).split("/")[-depth:]) for path in found]

    def _tried(self, what: str, act: Callable[[], T]) -> T:
        for wait in (*WAITS, None):
            try:
                return act()
            except Exception as error:  # every store has errors of its own
                if wait is None or isinstance(error, LASTING):
                    reason = str(error) or type(error).__name__
                    raise UserError(f"{self.url}: cannot {what}: {reason}") from error
                time.sleep(wait)
        raise AssertionError


def find(url: str, flag: str) -> Store:
    """The place that a URL names, not yet looked at; `flag` gave it.

    Raises:
        UserError: it is no URL of a store that fsspec knows, or a package for it is missing.
    """
    import fsspec

    protocol, separator, place = url.partition("://")
    if not (protocol and separator and place.strip("/")):
        raise UserError(f"{flag}={url}: give a URL, such as gs://bucket/run")
    options = {"auto_mkdir": True} if protocol in ("file", "local") else {}
    try:
        files, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        hint = f'pip install "jaxattack[{extra}]"' if extra else str(error)
        raise UserError(f"{flag}={url}: a package is missing: {hint}") from error
    except Exception as error:
        raise UserError(f"{flag}={url}: {error}") from error
    return Store(url, files, root.rstrip("/"))
