"""A copy of a work directory's stages in an object store, from which a fresh disk goes on.

The work directory stays the place of work. A stage that is not there is fetched if the mirror has
it, and believed only if its checksums (`sums`) say that it is as it was written. A stage that was
finished is uploaded, its record last: object stores rename nothing, so the record is the seal, and
an upload that was cut short has none. Saving points of trainings (`savepoint`) are kept alike, the
last one of each, until their stage is there.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import dataclasses
import functools
import json
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from jaxattack import distributed, owner, savepoint, store, sums
from jaxattack.errors import UserError, printable

FLAG = "--mirror"
MARK = "mirror.json"  # at its top: whose it is
NOTICE = (
    "Stages of a study of how safety breaks: weights of attacked or poisoned models and their "
    "replies are among them. For research; not to be published or used."
)
AT_ONCE = 8  # files

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Mirror:
    """Where copies are kept, and what is known to be there.

    Attributes:
        store: holds them.
        sealed: names of stages that are there in full.
        points: names of saving points, of which there may be a part only.
    """

    store: store.Store
    sealed: set[str]
    points: set[str]


_current: contextvars.ContextVar[Mirror | None] = contextvars.ContextVar("mirror", default=None)


@contextlib.contextmanager
def opened(url: str | None, study: str) -> Iterator[None]:
    """Mirror the stages that are run in this context; None: keep no mirror.

    Of several processes the first does.

    Raises:
        UserError: it cannot be read or written, or it is another study's.
    """
    if url is None or not distributed.is_first():
        yield
        return
    place = store.find(url, FLAG)
    if _is_empty(place, study):
        place.write(MARK, sums.render({"notice": NOTICE, "study": study}).encode())
    sealed = {name.split("/")[1] for name in place.matching(f"stages/*/{sums.RECORD}")}
    points = {name.split("/")[1] for name in place.matching(f"{savepoint.FOLDER}/*")}
    mirror = Mirror(place, sealed, points)
    for stage in {name.rsplit(".", 2)[0] for name in points} & sealed:  # a killed run left them
        _forget(mirror, stage)
    copies = savepoint.Copies(
        functools.partial(_points, mirror),
        fetch,
        functools.partial(_keep, mirror),
        functools.partial(_forget, mirror),
    )
    token = _current.set(mirror)
    try:
        with savepoint.copied_to(copies):
            yield
    finally:
        _current.reset(token)


def check(url: str, study: str, root: pathlib.Path) -> None:
    """See, without writing, that a mirror of a work directory `root` could be there.

    Raises:
        UserError: it could not.
    """
    protocol, _, named = url.partition("://")
    if protocol == "memory":
        raise UserError(f"{FLAG}={url}: it would end with this program")
    if protocol in ("file", "local"):
        path = pathlib.Path(named)
        if not path.is_absolute():
            raise UserError(f"{FLAG}={url}: give the whole path, {protocol}:///...")
        if path.resolve().is_relative_to(root.resolve()):
            raise UserError(f"{FLAG}={url}: that is in the work directory itself")
    _is_empty(store.find(url, FLAG), study)


def _is_empty(place: store.Store, study: str) -> bool:
    """Whether nothing is there yet; False: a mirror of this study.

    Raises:
        UserError: something else is there.
    """
    content = place.read(MARK)
    if content is None:
        if place.matching("*"):
            raise UserError(
                f"{FLAG}={place.url}: there are files and no {MARK}, so it is no mirror; give an "
                "empty place"
            )
        return True
    whose = _object(content).get("study")
    if whose != study:
        holds = f"it holds the study {whose!r}" if whose else f"its {MARK} is no mirror's"
        raise UserError(f"{FLAG}={place.url}: {holds}; give another place")
    return False


def leaving(url: str) -> str:
    """What leaves this machine, and for where, in a line."""
    return f"sent       all that is computed, weights of attacked models and replies too, to {url}"


def fetch(folder: pathlib.Path, identity: dict[str, Any]) -> bool:
    """Bring a stage or a saving point that is not there, if the mirror has it as it was written.

    Args:
        folder: where it should be.
        identity: facts that its record must hold.

    Returns:
        whether it is there now.
    """
    mirror = _current.get()
    name, is_point = f"{folder.parent.name}/{folder.name}", folder.parent.name == savepoint.FOLDER
    record = mirror.store.read(f"{name}/{sums.RECORD}") if mirror else None
    if mirror is None or record is None:
        return False
    mark = f".{folder.name}{owner.mark()}"
    partial = pathlib.Path(tempfile.mkdtemp(prefix=mark, dir=folder.parent))
    try:
        wrong = _download(mirror.store, name, record, partial) or sums.damage(partial, identity)
        if wrong:
            then = "not used" if is_point else "done again"
            _say(f"jaxattack: {mirror.store.url}/{name}: {wrong}; {then}")
            return False
        partial.chmod(0o755)
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another run was first
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    (mirror.points if is_point else mirror.sealed).add(folder.name)
    return True


def lacks(folder: pathlib.Path) -> bool:
    """Whether there is a mirror that is not known to have a stage."""
    mirror = _current.get()
    return mirror is not None and folder.name not in mirror.sealed


def push(folder: pathlib.Path, anew: bool = False) -> None:
    """Upload a finished stage that the mirror does not have; `anew`: one that it may have.

    Raises:
        UserError: the store fails again and again.
    """
    mirror = _current.get()
    if mirror is None or (folder.name in mirror.sealed and not anew):
        return
    place, name = mirror.store, f"stages/{folder.name}"
    sealed = None if anew else place.read(f"{name}/{sums.RECORD}")
    if sealed == (folder / sums.RECORD).read_bytes():
        mirror.sealed.add(folder.name)  # another run put it there
    else:
        _upload(place, name, folder)
        mirror.sealed.add(folder.name)
    _forget(mirror, folder.name)


def _upload(
    place: store.Store,
    name: str,
    folder: pathlib.Path,
    unless: Callable[[], bool] = lambda: False,
) -> bool:
    """Upload a folder with a record, that last; whether it was not told to end before."""

    def put(file: str) -> None:
        if not unless():
            place.put(f"{name}/{file}", folder / file)

    place.remove(f"{name}/{sums.RECORD}")  # of an earlier writing
    _side_by_side(put, [file for file, *_ in sums.signature(folder) if file != sums.RECORD])
    if unless():
        return False
    place.put(f"{name}/{sums.RECORD}", folder / sums.RECORD)
    return True


def _points(mirror: Mirror, training: str) -> list[str]:
    """Names of a training's saving points, or of parts of them."""
    found = mirror.store.matching(f"{savepoint.FOLDER}/{training}.*")
    names = [name.split("/")[1] for name in found]
    mirror.points.update(names)
    return names


def _keep(mirror: Mirror, folder: pathlib.Path, unless: Callable[[], bool]) -> None:
    """Upload a saving point; when it is whole the others of its training go."""
    mirror.points.add(folder.name)
    if _upload(mirror.store, f"{savepoint.FOLDER}/{folder.name}", folder, unless):
        _forget(mirror, folder.name.rpartition(".")[0], folder.name)


def _forget(mirror: Mirror, begins: str, but: str = "") -> None:
    """Take the saving points of a stage or a training away, but one; what stays does no harm."""
    for name in [each for each in mirror.points if each.startswith(f"{begins}.") and each != but]:
        with contextlib.suppress(UserError):
            mirror.store.remove(f"{savepoint.FOLDER}/{name}/{sums.RECORD}")
            mirror.store.remove(f"{savepoint.FOLDER}/{name}", whole=True)
            mirror.points.discard(name)


def push_files(root: pathlib.Path, paths: Iterable[pathlib.Path]) -> None:
    """Upload a run's own files, in this order; those that are not there are left out.

    Raises:
        UserError: the store fails again and again.
    """
    mirror = _current.get()
    for path in paths if mirror else ():
        if mirror and path.is_file() and not path.is_symlink():
            mirror.store.put(path.relative_to(root).as_posix(), path)


def _download(place: store.Store, name: str, record: bytes, partial: pathlib.Path) -> str:
    """Fill a folder with a stage's files; what is wrong with them, in a few words."""
    told = _object(record).get("files")
    if not isinstance(told, dict) or not all(map(_is_within, told)):
        return f"{sums.RECORD} is not as it was written"
    files = list(told)
    (partial / sums.RECORD).write_bytes(record)
    there = _side_by_side(lambda file: place.get(f"{name}/{file}", partial / file), files)
    gone = [file for file, found in zip(files, there, strict=True) if not found]
    return f"{gone[0]} is gone" if gone else ""


def _is_within(name: str) -> bool:
    """Whether a file of this name is in the folder that it is put into."""
    parts = pathlib.PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and "\0" not in name


def _side_by_side(act: Callable[[str], T], names: list[str]) -> list[T]:
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(act, names))


def _object(content: bytes | None) -> dict[str, Any]:
    try:
        value = json.loads(content or b"")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)
