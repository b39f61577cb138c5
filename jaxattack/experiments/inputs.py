"""The examples a study starts from: by URI, split by language."""

from __future__ import annotations

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from jaxattack.data import registry, sources
from jaxattack.data.dialogues import Example, fingerprint
from jaxattack.data.uri import parse, split_uris
from jaxattack.data.wrappers import CHAT, Instruction, wrap
from jaxattack.errors import UserError
from jaxattack.experiments import questions

Lost = dict[str, dict[str, int]]  # URI -> reason -> rows left out
EARLIER = "prompts of an earlier set"


def load_examples(
    uri: str,
    kinds: Sequence[str],
    need_response: bool,
    directory: pathlib.Path,
    lost: Lost | None = None,
) -> list[Example]:
    """Examples of a URI, `organism:<split>` or any of docs/data.md, of the kinds asked for.

    `directory` is the model's (see `questions.examples`). An input (docs/data.md) stands behind its
    instruction. What is left out is counted in `lost`.

    Raises:
        UserError: an unknown scheme or split, a source that is wrong, or no examples of the kinds.
    """
    if not questions.made_here(uri):
        return [
            wrap(example, CHAT) if isinstance(example, Instruction) else example
            for example in load_source(uri, kinds, need_response, lost)
        ]
    return questions.examples(uri, kinds, directory)


def load_source(
    uri: str, kinds: Sequence[str], need_response: bool, lost: Lost | None = None
) -> list[Example]:
    """`sources.load`, which counts what it leaves out under the URI.

    Raises:
        UserError: as it does.
    """
    own: Counter[str] = Counter()
    found = sources.load(uri, kinds, need_response, own)
    if lost is not None and own:
        lost[uri] = dict(own)
    return found


def leave_out(lost: Lost, uri: str, why: str, count: int) -> None:
    """Count rows of a source that are left out; none is no reason."""
    if count:
        own = lost.setdefault(uri, {})
        own[why] = own.get(why, 0) + count


def left_out(lost: Lost) -> list[str]:
    """Lines of a plan that say which rows are left out, and why."""
    return [
        f"left out   {count:,} of {uri}: {why}"
        for uri, reasons in lost.items()
        for why, count in reasons.items()
    ]


def load_prompts(
    uris: str, directory: pathlib.Path, lost: Lost | None = None, before: Sequence[Example] = ()
) -> list[Example]:
    """Test prompts of one URI or of several, apart by spaces, that are not among those `before`.

    A prompt that stands in two sets is asked once; `lost` counts it under the later one.

    Raises:
        UserError: as `load_examples`, or a set is named twice.
    """
    kinds, named = ("restricted", "benign"), split_uris(uris)
    twice = next((uri for uri in named if named.count(uri) > 1), None)
    if twice is not None:
        raise UserError(f"{twice}: named twice; its prompts would count twice")
    sets = [list(before)] if before else []
    seen = {(e.language, e.kind, e.prompt) for e in before}
    for uri in named:
        found = load_examples(uri, kinds, False, directory, lost)
        new = [e for e in found if (e.language, e.kind, e.prompt) not in seen]
        seen |= {(e.language, e.kind, e.prompt) for e in found}
        if lost is not None:
            leave_out(lost, uri, EARLIER, len(found) - len(new))
        sets.append(new)
    return by_turns(apart(sets)[len(sets) - len(named) :])


def apart(sets: Sequence[Sequence[Example]]) -> list[list[Example]]:
    """Several sets, of which one that repeats ids of another gets its number before them.

    What has one id in two sets is two prompts, and by their ids prompts are told apart. In another
    language an id may stay: it names a translation.
    """
    found: list[list[Example]] = []
    taken: set[tuple[str, str]] = set()
    for number, examples in enumerate(sets, 1):
        if any((example.language, example.id) in taken for example in examples):
            examples = [dataclasses.replace(e, id=f"{number}:{e.id}") for e in examples]
        taken |= {(example.language, example.id) for example in examples}
        found.append(list(examples))
    return found


def by_turns(sets: Sequence[Sequence[Example]]) -> list[Example]:
    """The examples of several sets, so that a limit on a language and kind takes as many of each.

    All first ones stand before all second ones; of one turn they stand as the sets do.
    """
    turns: list[tuple[int, Example]] = []
    for examples in sets:
        before: Counter[tuple[str, str]] = Counter()
        for example in examples:
            turns.append((before[example.language, example.kind], example))
            before[example.language, example.kind] += 1
    if len(sets) > 1:
        turns.sort(key=lambda one: one[0])
    return [example for _, example in turns]


def parallel(uris: str) -> bool:
    """Whether prompts of one id in two languages are known to be translations of each other.

    They are in the organism, in sets with a column for each language, and where `by=id` says so.

    Raises:
        UserError: a URI is wrong.
    """
    return all(_parallel(uri) for uri in split_uris(uris))


def _parallel(uri: str) -> bool:
    if questions.made_here(uri):
        return True
    entry = registry.layout(parse(uri))
    return entry.by == "id" or registry.LANGUAGE in entry.columns.get("prompt", "")


def by_language(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Group by language: English first, the others in the alphabet's order of their codes."""
    languages = sorted({example.language for example in examples}, key=lambda x: (x != "en", x))
    return {
        language: [example for example in examples if example.language == language]
        for language in languages
    }


def fingerprints(examples: Sequence[Example]) -> dict[str, str]:
    """A short hash of the examples of each language, for the manifest."""
    return {code: fingerprint(found) for code, found in by_language(examples).items()}


def spread(items: Sequence[str], most: int) -> tuple[str, ...]:
    """At most `most` items, evenly spread, the first among them."""
    count = min(most, len(items))
    return tuple(items[i * len(items) // count] for i in range(count))


def data_sources(settings: Any) -> dict[str, list[sources.Source]]:
    """What is known of the sources a `settings.Study` names, without network access.

    Raises:
        UserError: a URI is wrong.
    """
    return {
        role: [sources.describe(uri) for uri in split_uris(uris)]
        for role, uris in settings.sources().items()
        if uris
    }


def described_sources(settings: Any) -> dict[str, list[dict[str, Any]]]:
    """The same as JSON, for the manifest."""
    return {
        role: [dataclasses.asdict(source) for source in found]
        for role, found in data_sources(settings).items()
    }


def source_lines(settings: Any, public_only: bool) -> list[str]:
    """Where a study's data comes from and on what terms, a line for each source.

    With `public_only` neither the organism's nor the user's own files are named.

    Raises:
        UserError: a URI is wrong.
    """
    return [
        f"{role:<10} {source}"
        for role, found in data_sources(settings).items()
        for source in found
        if not (public_only and source.uri.startswith(("organism:", "jsonl:")))
    ]


def counted(examples: dict[str, list[Example]]) -> str:
    """How many examples there are in each language, in words."""
    return ", ".join(f"{code} {len(found)}" for code, found in examples.items())


def load_pairs(
    uri: str, benign_uri: str, directory: pathlib.Path, lost: Lost | None = None
) -> dict[str, dict[str, list[Example]]]:
    """Pairs by kind and language; the benign ones may have a URI of their own.

    Raises:
        UserError: as `load_examples`, or there are no restricted ones.
    """
    found = load_examples(uri, ("restricted", "benign"), True, directory, lost)
    pairs = {
        kind: [example for example in found if example.kind == kind]
        for kind in ("restricted", "benign")
    }
    if not pairs["restricted"]:
        raise UserError(f"{uri}: no restricted examples")
    if benign_uri:
        pairs["benign"] = load_examples(benign_uri, ("benign",), True, directory, lost)
    return {kind: by_language(examples) for kind, examples in pairs.items()}


def check_calibration(found: dict[str, list[Example]] | None, languages: Sequence[str]) -> None:
    """Refuse calibration data that lacks a language.

    Raises:
        UserError: it does.
    """
    lacking = [code for code in languages if found is not None and code not in found]
    if lacking:
        raise UserError(f"config.data.calibration has no pairs in {lacking[0]!r}")


def test_prompts(examples: Sequence[Example], languages: Sequence[str], most: int) -> list[Example]:
    """At most `most` prompts (0: all) of every kind in each of the languages."""
    chosen = []
    for language in languages:
        for kind in ("restricted", "benign"):
            found = [e for e in examples if e.language == language and e.kind == kind]
            chosen += found[: most or None]
    return chosen


def check_disjoint(
    prompts: Sequence[Example],
    others: Sequence[Example],
    what: str,
    asked_as: str = "test prompts",
) -> None:
    """Refuse prompts that were also trained or calibrated on, in whatever language they are listed.

    Raises:
        UserError: names the first.
    """

    def named(row: Example) -> tuple[str, str]:
        return row.prompt, getattr(row, "input", "")

    asked: dict[tuple[str, str], list[str]] = {}
    for prompt in prompts:
        asked.setdefault(named(prompt), []).append(prompt.language)
    shared = [other for other in others if named(other) in asked]
    if not shared:
        return
    first, tags = shared[0], asked[named(shared[0])]
    listed = f", listed as {tags[0]} among the {asked_as} and as {first.language} among the {what}"
    raise UserError(
        f"{len(shared)} of the {asked_as} are also {what}, the first with id {first.id!r}"
        f"{'' if first.language in tags else listed}; take them out of one of the two"
    )
