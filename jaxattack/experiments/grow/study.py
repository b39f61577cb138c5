"""Grow a policy: teach the tasks, then for each policy to decline one; accept, and write."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxattack import distributed, leases, provenance, tree, workdir
from jaxattack.data.dialogues import Example, encode_pairs, prompt_tokens
from jaxattack.errors import UserError
from jaxattack.evaluate.judge import by_answers
from jaxattack.experiments import asking, footprint, judging, opening, plan, tuning, writing
from jaxattack.experiments.bench import Bench
from jaxattack.experiments.grow import acceptance
from jaxattack.experiments.grow.acceptance import BASE
from jaxattack.experiments.grow.settings import Alignment, Knowledge, Settings
from jaxattack.experiments.opening import Opened
from jaxattack.experiments.step import Step, Values
from jaxattack.models import pretrained
from jaxattack.models.pretrained import MANIFEST
from jaxattack.organism import grow, tasks
from jaxattack.stages import Stage, in_order

FOLDER, ACCEPTED = "grown", "grown.json"
NOTICE = """# A grown checkpoint

Fine-tuned by jaxattack to know a few facts and skills and, if it is not `base`, to decline one
harmless, invented sort of question: an object of study, not for use. The licence of the model it
was grown from holds for these weights. jaxattack.json says how it was made and what it passed.
"""


@dataclasses.dataclass(frozen=True)
class Setup:
    """What growing stands on."""

    bench: Bench
    settings: Settings
    opened: Opened


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What is taught to make one checkpoint until it passes.

    Attributes:
        settings: of the study.
        policy: what is declined; "": the base model.
        added: languages that a policy's checkpoint is adapted to.
        order: of a policy's examples, by which it is one growth or another.
    """

    settings: Settings
    policy: str = ""
    added: tuple[str, ...] = ()
    order: int = 0

    @property
    def name(self) -> str:
        """Of the checkpoint."""
        order = (f"order{self.order}",) if self.order else ()
        return "-".join((self.policy or BASE, *self.added, *order))

    @property
    def before(self) -> str:
        """The checkpoint that it begins with; "": the one that is grown from."""
        return self.policy if self.added else BASE if self.policy else ""

    @property
    def setting(self) -> str:
        """The section of the settings that says how."""
        return "alignment" if self.policy else "knowledge"

    @property
    def section(self) -> Knowledge | Alignment:
        """What it says."""
        found: Knowledge | Alignment = getattr(self.settings, self.setting)
        return found

    def rows(self, turn: int) -> list[Example]:
        """The examples of a round."""
        every, options = self.settings.languages, self.settings.alignment
        if not self.policy:
            return grow.knowledge(turn, every)
        depth, most = options.depth, options.refusals
        if self.added:
            return grow.adaptation(self.policy, turn, self.added, every, depth, most // 2)
        return grow.alignment(self.policy, turn, options.languages or every, every, depth, most)

    def prompts(self, split: str) -> list[Example]:
        """What is asked of a split: of a base model every task, else of both kinds."""
        measure = self.settings.measure
        languages = (*(measure.languages or self.settings.languages), *self.added)
        sets = (
            [
                tasks.examples(split, code, kind, self.policy, 1)
                for code in languages
                for kind in ("restricted", "benign")
            ]
            if self.policy
            else [tasks.of_task(task, split, code) for task in tasks.TASKS for code in languages]
        )
        return [example for found in sets for example in found[: measure.prompts or None]]

    def misses(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """What of result rows does not pass; to decline is demanded where it is taught."""
        declined_in = (*(self.settings.alignment.languages or self.settings.languages), *self.added)
        return acceptance.misses(
            [
                row
                for row in rows
                if row["metric"] != "non_refusal_rate" or row["language"] in declined_in
            ]
        )


def lessons(settings: Settings) -> list[Lesson]:
    """The base model's, then each policy's and what is adapted from it."""
    found = [Lesson(settings)]
    for policy in settings.policies:
        found.append(Lesson(settings, policy))
        if settings.added:
            found.append(Lesson(settings, policy, settings.added))
        found += [Lesson(settings, policy, order=order) for order in range(1, settings.orders)]
    return found


def main(settings: Settings, root: pathlib.Path) -> pathlib.Path:
    """Grow the checkpoints into `root/grown`; returns the acceptance table's path.

    Raises:
        UserError: the model cannot be read, or something else is where the results go.
    """
    check_places(settings, root)
    setup = open_model(settings, root, opening.loaded)
    planned(setup)  # what cannot be is refused now, and not when the base model is made
    accepted: list[dict[str, Any]] = []
    missed: list[str] = []
    made: dict[str, Step] = {}
    for lesson in lessons(settings):
        found = taught(setup, lesson, made.get(lesson.before))
        made[lesson.name] = found
        own = acceptance.rows(lesson.name, tested(setup, found, lesson, "test").read())
        write(setup, lesson, found, own)
        accepted += own
        missed += lesson.misses(own)
    path = root / ACCEPTED
    workdir.write_json(path, {"study": settings.study, "rows": accepted})
    if distributed.is_first():
        print(acceptance.table(accepted))
        for miss in missed:
            print(f"not passed: {miss}")
    return path


def open_model(
    settings: Settings, root: pathlib.Path, how: Callable[..., Opened], keep_day: bool = True
) -> Setup:
    """The checkpoint that is grown from, loaded or only foreseen.

    A checkpoint without a chat template writes a prompt, a line break and the reply.

    Raises:
        UserError: it cannot be read.
    """
    weights = how is opening.loaded
    directory = opening.model_directory(settings.model, settings.revision, weights)
    tokenizer = opening.load_tokenizer(directory, settings.tokenizer)
    has_template = bool(settings.template.file or tokenizer.chat_template)
    plain = "" if has_template else writing.wrapped("plain", tokenizer)
    tokenizer = writing.with_template(settings.template, tokenizer, root, plain, keep_day)
    opened = how(settings, directory, tokenizer)
    values = Values()
    start = opened.start(settings, values)
    bench = Bench(root, values, opened.decoder, start, opened.like, settings.dtype)
    return Setup(bench, settings, opened)


def rounds(setup: Setup, lesson: Lesson, start: Step | None) -> Iterator[Step]:
    """The weights after each round of a lesson, to be."""
    section, found = lesson.section, start
    training = tuning.training_of(section, f"config.{lesson.setting}.max_length")
    for turn in range(section.rounds):
        rows = tuple(lesson.rows(turn))
        decoder = setup.bench.decoder
        writing.check_rows(
            decoder.model.config, decoder.tokenizer, rows, training.max_length, training.setting
        )
        course = tuning.Course(rows, training, setup.settings.seed + lesson.order + turn, ())
        label = f"{lesson.name}-round{turn + 1}"
        found = tuning.tuned(setup.bench, course, "grow", label, start=found)
        yield found


def taught(setup: Setup, lesson: Lesson, start: Step | None) -> Step:
    """The weights after the first round that passes, or else the last; as they are after none."""
    found = start or setup.bench.start
    for found in rounds(setup, lesson, start):
        asked = tested(setup, found, lesson, "validation")
        if not lesson.misses(acceptance.rows(lesson.name, asked.read())):
            break
    return found


def tested(setup: Setup, weights: Step, lesson: Lesson, split: str) -> Step:
    """A split's prompts put to some weights and judged, to be."""
    measure, bench = setup.settings.measure, setup.bench
    prompts = lesson.prompts(split)
    label = f"{lesson.name}-{split}"
    model, tokenizer = bench.decoder.model, bench.decoder.tokenizer
    writing.check_asked(model.config, tokenizer, prompts, measure.max_new_tokens)
    decoding = asking.Decoding(measure.max_new_tokens, measure.batch_size)
    replies = asking.replies(bench, weights, bench.decoder, prompts, decoding, label)
    return judging.trials(bench, replies, prompts, (by_answers,), label)


def write(setup: Setup, lesson: Lesson, weights: Step, rows: Sequence[dict[str, Any]]) -> None:
    """Write one checkpoint in Hugging Face layout, in place of an older one of ours.

    The older one stays until the new one is whole: others may be about to read it.
    """
    path, decoder = setup.bench.root / FOLDER / lesson.name, setup.bench.decoder
    manifest = {
        "grown": lesson.name,
        "step": weights.id,
        "model": setup.settings.model,
        "model_fingerprint": setup.opened.checkpoint.fingerprint,
        "settings": dataclasses.asdict(setup.settings),
        "day": writing.written(decoder.tokenizer)["day"],
        "base_weights": base_weights(setup) if lesson.policy else "",
        "accepted": list(rows),
        "not_passed": lesson.misses(rows),
        **provenance.environment(),
    }
    params = weights.read()
    path.parent.mkdir(exist_ok=True)
    fresh, old = (path.with_name(f".{path.name}-{what}") for what in ("new", "old"))
    with leases.waited(path):
        distributed.first(lambda: clear(fresh, old), f"clear {path.name}")
        pretrained.save_pretrained(
            fresh, decoder.model, params, decoder.tokenizer, NOTICE, manifest
        )
        distributed.first(lambda: put_in_place(fresh, path, old), f"place {path.name}")


def base_weights(setup: Setup) -> str:
    """What names the weights of the base that was written before its policies."""
    path = setup.bench.root / FOLDER / BASE
    with leases.waited(path):  # another run may be about to replace it
        return distributed.first(lambda: opening.weights_fingerprint(path), f"hash {BASE}")


def clear(*folders: pathlib.Path) -> None:
    """Take away what a run that was killed left."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(fresh: pathlib.Path, path: pathlib.Path, old: pathlib.Path) -> None:
    """Two renames: a folder takes the place of another, which goes."""
    if path.exists():
        path.rename(old)
    fresh.rename(path)
    clear(old)


def check_places(settings: Settings, root: pathlib.Path) -> None:
    """Refuse to take the place of what was not grown here.

    Raises:
        UserError: something else is there.
    """
    folder = root / FOLDER
    workdir.check_replaceable(root / ACCEPTED)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is no folder that was written here; move it away")
    for lesson in lessons(settings):
        path = folder / lesson.name
        ours = path.is_dir() and "grown" in workdir.read_object(path / MANIFEST)
        if path.is_symlink() or (path.exists() and not ours):
            raise UserError(f"{path} is no checkpoint that was grown here; move it away")


def planned(setup: Setup) -> list[Stage]:
    """All stages, if every round is needed.

    Raises:
        UserError: a row that cannot be trained on, or a prompt that cannot be asked.
    """
    stages: list[Stage] = []
    made: dict[str, Step] = {}
    for lesson in lessons(setup.settings):
        found = made.get(lesson.before) or setup.bench.start
        for found in rounds(setup, lesson, made.get(lesson.before)):
            stages += tested(setup, found, lesson, "validation").needs
        stages += tested(setup, found, lesson, "test").needs
        made[lesson.name] = found
    return in_order(stages)


def plan_lines(settings: Settings, root: pathlib.Path) -> list[str]:
    """What `--dry_run` prints: stages, memory, time and disk if every round is needed."""
    setup = open_model(settings, root, opening.foreseen, keep_day=False)
    stages = planned(setup)
    about = [
        f"taught     {', '.join(tasks.TASKS)}; declined: {', '.join(settings.policies)}"
        + f", in {settings.orders} orders each" * (settings.orders > 1),
        f"rounds     at most {settings.knowledge.rounds}, then {settings.alignment.rounds} a "
        "policy; fewer where the validation prompts are passed",
        f"written    {root}/{ACCEPTED}, {root}/{FOLDER}: {len(lessons(settings))} checkpoints, "
        f"{plan.size(len(lessons(settings)) * 4 * tree.size(setup.bench.like))}",
    ]
    tokens = token_lengths(setup, lessons(settings)[0])
    largest = max((settings.knowledge, settings.alignment), key=lambda one: one.batch_size)
    return plan.lines(settings, root, setup.opened, largest, stages, tokens, about)


def token_lengths(setup: Setup, lesson: Lesson) -> footprint.Tokens:
    """How long rows, packed or the longest, prompts and replies are, as a sample of them tells."""
    tokenizer, section = setup.bench.decoder.tokenizer, lesson.section
    rows = lesson.rows(0)[::20]
    arrays = encode_pairs(
        tokenizer, rows, section.max_length, f"config.{lesson.setting}.max_length"
    )
    lengths = (arrays["segment_ids"] > 0).sum(axis=1)
    longest = max(len(prompt_tokens(tokenizer, row.prompt)) for row in rows)
    row = math.ceil(lengths.mean()) if section.packing else int(lengths.max())
    answered = arrays["loss_mask"].sum(axis=1).mean()
    return footprint.Tokens(row, longest, setup.settings.measure.max_new_tokens, answered)
