"""Judge models as settings name them: `sort=checkpoint`, or `rubric=address#model`."""

from __future__ import annotations

from collections.abc import Iterable

from jaxattack.evaluate.opinions import MODERATORS
from jaxattack.experiments.served import SORT


def judge_name(named: str) -> str:
    """What a judge model is called in results.

    Its sort; of those behind an endpoint there may be several, so it is the model's name too.
    """
    sort, _, path = named.partition("=")
    model = path.partition("#")[2].partition("?")[0]
    return f"{SORT}:{model}" if sort == SORT else sort


def tell_refusals(named: Iterable[str]) -> bool:
    """Whether one of them says whether a reply declines."""
    sorts = [name.partition("=")[0] for name in named]
    return any(sort == SORT or MODERATORS[sort].refusals for sort in sorts)


def grades(named: Iterable[str]) -> bool:
    """Whether one of them grades replies."""
    sorts = [name.partition("=")[0] for name in named]
    return any(sort != SORT and MODERATORS[sort].grades for sort in sorts)


def wrong(named: tuple[str, ...]) -> str:
    """What is no `sort=checkpoint`, has a sort that is not known, or is named twice; in words."""
    for name in named:
        sort, _, path = name.partition("=")
        if not path:
            return f"{name!r} is no judge model; write it as 'qwen3guard=owner/name'"
        if sort not in (*MODERATORS, SORT):
            return f"there is no sort {sort!r}; there are: {', '.join((*MODERATORS, SORT))}"
    known = [judge_name(name) for name in named]
    twice = next((name for name in known if known.count(name) > 1), "")
    return f"{twice} is named twice; name each once" if twice else ""
