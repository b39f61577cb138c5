"""Leases: of all the runs in one work directory, one computes a stage and the others know of it.

A lease is a file beside what is computed. It is made by a create that only one can win, says whose
it is (`owner.mark`), and is touched every minute. It has run out when its process is gone, which
its own host sees at once; of another host, when nobody touched it for `EXPIRY` seconds.

A lease that ran out is not replaced: two runs that saw it run out would both do so, the second one
taking the first one's. It is succeeded, by a file whose name holds the word that it says, another
with every lease; and this too only one can create. So leases form a chain, and who made its last
link has the lease. Whoever gives it back adds a link first, that nobody can succeed it any more,
and then takes the chain away from its beginning: who added a link to a chain that was taken away
meanwhile finds no way to it from the beginning, and has nothing.

Only who was stopped for longer than `EXPIRY`, and goes on, computes what another one computes too;
then the first that is done leaves the result, and nothing is lost but time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import pathlib
import re
import sys
import time
import uuid
from collections.abc import Iterator

from jaxattack import distributed, owner
from jaxattack.errors import printable

EXPIRY = 5 * owner.BEAT  # seconds without a touch after which another host's lease has run out
SHORTEST, LONGEST = 0.2, 5.0  # seconds between two looks at what others compute

_WORD = re.compile(r" ([0-9a-f]{32})$")
_ours: set[str] = set()  # words of the leases that this process has


@dataclasses.dataclass(frozen=True)
class Link:
    """A file of a chain of leases, and what it says."""

    path: pathlib.Path
    text: str

    @property
    def word(self) -> str:
        """What no other link says; empty if it was made, and nothing written yet."""
        found = _WORD.search(self.text)
        return found[1] if found else ""

    @property
    def next(self) -> pathlib.Path:
        """The file that would succeed it."""
        stem = self.path.name.rpartition(".lease")[0]
        name = f"{stem}.lease-{self.word}" if self.word else f"{self.path.name}-"
        return self.path.with_name(name)

    def has_expired(self) -> bool:
        """Whether the one who made it is gone, or has lost it."""
        if owner.mark() in self.text:
            return self.word not in _ours
        lives = owner.is_alive(self.text)
        return owner.untouched(self.path) > EXPIRY if lives is None else not lives


def take(target: pathlib.Path) -> Link | None:
    """The lease of what will be at `target`; None if another one has it."""
    chain = _chain(target)
    if chain and not chain[-1].has_expired():
        return None
    return _add(target, chain[-1].next if chain else _first(target))


def give_back(target: pathlib.Path, lease: Link) -> None:
    """Let others have it; if it ran out and another one took it, that one keeps it."""
    closing = None
    try:
        closing = _add(target, lease.next)
        if closing is not None:
            for link in _chain(target):
                link.path.unlink(missing_ok=True)
    except OSError:
        pass  # the disk is gone or full; it will run out
    finally:
        _ours.difference_update(link.word for link in (lease, closing) if link)


def clear(folder: pathlib.Path) -> None:
    """Take away what ran out in a folder."""
    for path in folder.glob(".*.lease"):
        target = folder / path.name[1:].removesuffix(".lease")
        lease = take(target)
        if lease is not None:
            give_back(target, lease)


@contextlib.contextmanager
def held(target: pathlib.Path) -> Iterator[bool]:
    """Have a lease, and touch it, until the end; False if another run has it.

    Of several processes that are one program the first takes it for all.
    """
    own: list[Link] = []

    def taken() -> bool:
        lease = take(target)
        own.extend([lease] if lease else [])
        return lease is not None

    try:
        if not distributed.first(taken, f"lease {target.name}"):
            yield False
        elif not own:
            yield True  # the first process has it
        else:
            with owner.alive(own[0].path):
                yield True
    finally:
        for lease in own:
            give_back(target, lease)


@contextlib.contextmanager
def waited(target: pathlib.Path) -> Iterator[None]:
    """Have a lease, after others that have it."""
    looks = pauses(f"waiting for another run at {target.name}")
    while True:
        with held(target) as ours:
            if ours:
                yield
                return
        next(looks)


def pauses(said: str = "") -> Iterator[None]:
    """Waits between two looks, the next one longer; the first says why."""
    if said and distributed.is_first():
        print(printable(f"jaxattack: {said}"), file=sys.stderr, flush=True)
    seconds = SHORTEST
    while True:
        time.sleep(seconds)
        yield
        seconds = min(LONGEST, 1.5 * seconds)


def _first(target: pathlib.Path) -> pathlib.Path:
    return target.with_name(f".{target.name}.lease")


def _chain(target: pathlib.Path) -> list[Link]:
    """The links that there are, from the first to the one that counts."""
    found, path = list[Link](), _first(target)
    while True:
        try:
            link = Link(path, path.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # gone, or going, on another host
                return found
            raise
        found.append(link)
        path = link.next


def _add(target: pathlib.Path, path: pathlib.Path) -> Link | None:
    """A new last link of the chain; None if there is one, or the chain was taken away meanwhile."""
    word = uuid.uuid4().hex
    link = Link(path, f"{owner.mark()} {word}")
    _ours.add(word)
    last = False
    try:
        if _create(path, link.text):
            last = _chain(target)[-1:] == [link]
            if not last:
                path.unlink(missing_ok=True)
    finally:
        if not last:
            _ours.discard(word)
    return link if last else None


def _create(path: pathlib.Path, text: str) -> bool:
    """A new file, which has its text when it is there; False if it was there before."""
    partial = path.with_name(f".{uuid.uuid4().hex}{owner.mark()}")
    try:
        partial.write_text(text, encoding="utf-8")
        os.link(partial, path)
        return True
    except FileExistsError:
        return partial.stat().st_nlink > 1  # a network's file system may have asked twice
    except OSError:  # one that has no second names: killed between two lines, the file is empty
        with contextlib.suppress(FileExistsError), open(path, "x", encoding="utf-8") as file:
            file.write(text)
            return True
        return False
    finally:
        partial.unlink(missing_ok=True)
