"""What the Hugging Face hub does not give, on one line: names, terms, limits, no network."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from jaxattack.errors import UserError

LOGIN = "log in here (`hf auth login`, or HF_TOKEN in the environment)"
_SHOWN = 300  # characters of a message of the hub's


def hub_error(error: BaseException, what: str, revision: str | None = None) -> UserError:
    """The line for a failure of `huggingface_hub`, for data sets and models alike.

    Args:
        error: what the library raised.
        what: what was asked for, as the user named it.
        revision: the one that was asked for, if any.
    """
    from huggingface_hub import errors

    chain = list(_chain(error))
    status = next(filter(None, map(_status, chain)), 0)
    told = " ".join(str(one) for one in chain)

    def is_a(name: str) -> bool:  # not every version has every kind
        kind = getattr(errors, name, None)
        return kind is not None and any(isinstance(one, kind) for one in chain)

    at = f"revision {revision!r}" if revision else "it"
    if is_a("GatedRepoError") and status == 403:
        line = "its owner has not granted access to this login: see its page on the hub"
    elif is_a("GatedRepoError"):
        line = (
            "its owner asks for terms to be accepted; accept them on its page on the hub, then "
            f"{LOGIN}"
        )
    elif is_a("DisabledRepoError"):
        line = "the hub has closed it"
    elif is_a("RepositoryNotFoundError"):
        line = f"the hub knows no such name, or it is private; check it, or {LOGIN}"
    elif is_a("RevisionNotFoundError"):
        line = f"there is no revision {revision!r}" if revision else "there is no such revision"
    elif is_a("HFValidationError"):
        line = "no name on the hub; one looks like owner/name"
    elif status == 401:
        line = f"the hub does not accept the token that is set here; {LOGIN} again, or unset it"
    elif status == 429:
        wait = re.search(r"[Rr]etry after (\d+) seconds", told)
        after = f" in {wait[1]} seconds" if wait else " later"
        line = f"the hub has had too many requests (HTTP 429); try again{after}, or {LOGIN}"
    elif status >= 500:
        line = f"the hub is out of order at present (HTTP {status}); try again later"
    elif is_a("LocalEntryNotFoundError") or is_a("OfflineModeIsEnabled"):
        line = (
            f"{at} is not in the cache, or not all of it, and the hub does not answer; load it "
            "once on a machine with access, or copy its cache (HF_HOME) here"
        )
    elif is_a("EntryNotFoundError"):
        line = f"a file that is needed is not there ({_first(error)})"
    elif isinstance(error, OSError) and error.errno and not status:
        named = f": {error.filename}" if error.filename else ""
        line = f"could not be stored or read here ({os.strerror(error.errno)}{named})"
    else:
        line = f"the hub did not give it ({_first(error)})"
    return UserError(f"{what}: {line}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _status(error: BaseException) -> int:
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return status if isinstance(status, int) else 0


def _first(error: BaseException) -> str:
    """What a library's exception says, on one line."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"
