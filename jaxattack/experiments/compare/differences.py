"""What was done otherwise in one run than in another: settings, data, judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxattack.experiments.runs import Run

# What may differ without a word: where it ran and how fast, what is shown.
SILENT = ("mesh", "attention", "remat", "measure.batch_size", "report.", "replies")
UNPINNED = "shipped"  # with the package: other code may make other rows of it
# What is told in words below, or is what is compared.
TOLD = ("measure.judge", "data.prompts", "measure.prompts", "measure.languages", "seeds")


def column(run: Run) -> str:
    """Of a run, in tables that have others."""
    return f"run {run.name}"


def settings(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Settings that are not the same in all runs: a row each, with a column for every run.

    One that not all of them have is newer than some of them, and no difference that was made.
    """
    found = []
    for name in sorted(set.intersection(*(set(run.config) for run in runs))):
        values = {column(run): run.config[name] for run in runs}
        if len(set(values.values())) > 1:
            found.append({"setting": name, **values})
    return found


def cautions(runs: Sequence[Run]) -> list[dict[str, str]]:
    """What keeps the runs from being compared as they stand, a topic and a sentence each."""
    found = [
        {"topic": topic, "text": says(runs)}
        for topic, differs, says in _CHECKS
        if any(differs(runs[0], run) for run in runs[1:])
    ]
    named = [row["setting"] for row in settings(runs)]
    other = [name for name in named if not name.startswith(SILENT) and name not in (*TOLD, "model")]
    if other:
        text = f"The runs were also set otherwise in {', '.join(other)}."
        found.append({"topic": "settings", "text": text})
    return found


def _judges(runs: Sequence[Run]) -> str:
    said = "; ".join(f"{run.name}: {run.judge_name}" for run in runs)
    return (
        "The judges differ, so a difference in rates may be theirs and not the models': "
        f"{said}. Judge all runs alike before you compare them."
    )


def _prompts(runs: Sequence[Run]) -> str:
    said = "; ".join(
        f"{run.name}: {', '.join(sorted(runs[0].asked_as(run))) or 'in none'}" for run in runs[1:]
    )
    return (
        f"The same prompts as in {runs[0].name} were asked only in some languages ({said}), and "
        "only these are compared. Without any, the differences are of two samples and have no p."
    )


def _others_asked(first: Run, other: Run) -> bool:
    common = set(first.manifest["prompts"]) & set(other.manifest["prompts"])
    return not common or first.asked_as(other) != common


def _models(runs: Sequence[Run]) -> str:
    changed = dict.fromkeys(name for run in runs[1:] for name in _changed_models(runs[0], run))
    found = {run.name: dict(_fingerprints(run)) for run in runs}
    said = []
    for name in changed:
        each = ", ".join(f"{run}: {own[name]}" for run, own in found.items() if name in own)
        said.append(f"{name[0]} ({each})")
    return (
        "Under one name the runs used models that are not the same, so a difference may be theirs: "
        f"{'; '.join(said)}."
    )


def _changed_models(first: Run, other: Run) -> list[tuple[str, str]]:
    """Names under which two runs found other checkpoints, or a judge that is asked otherwise."""
    ours, theirs = dict(_fingerprints(first)), dict(_fingerprints(other))
    return [name for name, found in ours.items() if theirs.get(name, found) != found]


def _fingerprints(run: Run) -> Iterator[tuple[tuple[str, str], str]]:
    """Of every model that a run names: its name and revision, and its fingerprint."""
    known = run.manifest
    if known.get("model_fingerprint"):
        name = str(known.get("model")), str(known.get("revision") or "")
        yield name, known["model_fingerprint"]
    for role in ("other_models", "judge_models"):
        for name, found in (known.get(role) or {}).items():
            yield (name, role), found


def _templates(runs: Sequence[Run]) -> str:
    said = "; ".join(f"{run.name}: {_template(run)[1]}" for run in runs)
    return (
        "Under one name the runs' dialogues were written by templates that are not the same, so a "
        f"difference may be theirs ({said})."
    )


def _template_changed(first: Run, other: Run) -> bool:
    (ours, source), (theirs, there) = _template(first), _template(other)
    return ours == theirs and None not in (source, there) and source != there


def _template(run: Run) -> tuple[dict[str, str], str | None]:
    """What names the template, a file or else the checkpoint, and a hash of it."""
    named = {name: value for name, value in run.config.items() if name.startswith("template.")}
    if not named.get("template.file"):
        named["model"] = str(run.manifest.get("model"))
    return named, (run.manifest.get("template") or {}).get("source")


def _data(runs: Sequence[Run]) -> str:
    said = "; ".join(
        f"{run.name}: {', '.join(changed)}"
        for run in runs[1:]
        if (changed := _changed_data(runs[0], run))
    )
    return (
        f"Data of the same name is not the same as in {runs[0].name} ({said}): it was changed "
        "between the runs, or other rows of it were taken, and a difference may be its."
    )


def _changed_data(first: Run, other: Run) -> list[str]:
    """What two runs read under the same URIs and found otherwise; prompts are told by themselves.

    A source that is pinned, by its files' hash, a commit or a version, is told by that; else
    the rows that were read are.
    """
    ours, theirs = (run.manifest.get("data") or {} for run in (first, other))
    return [
        role
        for role, sources in ours.items()
        if role != "prompts"
        and [one["uri"] for one in sources] == [one["uri"] for one in theirs.get(role, ())]
        and _differ(
            [one.get("resolved") for one in sources],
            [one.get("resolved") for one in theirs[role]],
            *(run.manifest.get(role) for run in (first, other)),
        )
    ]


def _differ(ours: list[Any], theirs: list[Any], read: Any, read_there: Any) -> bool:
    """Whether pins differ, or where not all is pinned what was read, as far as both say."""
    if not {None, "", UNPINNED} & {*ours, *theirs}:
        return ours != theirs
    if isinstance(read, Mapping) and isinstance(read_there, Mapping):
        return any(read[code] != read_there[code] for code in read.keys() & read_there.keys())
    return None not in (read, read_there) and read != read_there


def _languages(runs: Sequence[Run]) -> str:
    common = set.intersection(*(set(run.results["languages"]) for run in runs))
    return (
        "The runs measured different languages; a mean of two runs is over those that both "
        f"measured. All of them measured {', '.join(sorted(common)) or 'none'}."
    )


def _seeds(runs: Sequence[Run]) -> str:
    said = "; ".join(f"{run.name}: {', '.join(map(str, run.results['seeds']))}" for run in runs)
    return (
        f"The runs have different seeds ({said}). With one seed in a run its interval is over the "
        "prompts of that run alone and says nothing of other trainings."
    )


Check = tuple[str, Callable[[Run, Run], bool], Callable[[Sequence[Run]], str]]
_CHECKS: tuple[Check, ...] = (
    ("judges", lambda a, b: a.judge != b.judge, _judges),
    ("models", lambda a, b: bool(_changed_models(a, b)), _models),
    ("template", _template_changed, _templates),
    ("data", lambda a, b: bool(_changed_data(a, b)), _data),
    ("prompts", _others_asked, _prompts),
    ("languages", lambda a, b: a.results["languages"] != b.results["languages"], _languages),
    ("seeds", lambda a, b: a.results["seeds"] != b.results["seeds"], _seeds),
)
