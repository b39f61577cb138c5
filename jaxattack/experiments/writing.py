"""How a study writes dialogues: by which chat template, given what, on which day.

The same tokenizer goes into training and asking, so both are written alike.
"""

from __future__ import annotations

import datetime
import json
import pathlib
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxattack import distributed, leases, organism, workdir
from jaxattack.data import templates
from jaxattack.data.dialogues import Example, check_pairs
from jaxattack.data.wrappers import WRAPPERS
from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig
from jaxattack.models.prompts import check_prompts, positions

if TYPE_CHECKING:
    from jaxattack.experiments.settings import Template, WrappedTemplate

DAY_FILE = "day.txt"  # in the work directory
LARGEST = 1 << 20  # bytes of a template file


def writer(
    options: WrappedTemplate, tokenizer: Any, root: pathlib.Path, keep_day: bool = True
) -> Any:
    """A tokenizer that writes prompts with the wrapper's texts around them.

    Raises:
        UserError: as `with_template`.
    """
    plain = "" if options.wrapper == "chat" else wrapped(options.wrapper, tokenizer)
    return with_template(options, tokenizer, root, plain, keep_day)


def wrapped(wrapper: str, tokenizer: Any) -> str:
    """The template of a base model, with a wrapper's texts around the prompt."""
    before, _, between = WRAPPERS[wrapper].without_input.partition("{instruction}")
    return templates.plain_source(tokenizer, before, between)


def with_template(
    options: Template, tokenizer: Any, root: pathlib.Path, plain: str = "", keep_day: bool = True
) -> Any:
    """A tokenizer that writes dialogues as the settings say.

    Args:
        options: the settings.
        tokenizer: of the checkpoint.
        root: the work directory.
        plain: the template of a base model, in place of a chat template.
        keep_day: whether to write down the day, if the template asks for it and none is set.

    Raises:
        UserError: a template that is not there or does not work, or settings that do not go
            together, or with how the checkpoint was grown.
    """
    chosen = {"template.file": options.file, "template.name": options.name, "a wrapper": plain}
    given = [name for name, value in chosen.items() if value]
    if len(given) > 1:
        raise UserError(
            f"config: {given[0]} and {given[1]} are both set, and one of them says how dialogues "
            "are written"
        )
    source = read_template(options.file) if options.file else plain
    origin = f"config.template.file={options.file}" if options.file else ""
    arguments = json.loads(options.arguments or "{}")
    written = templates.use_template(tokenizer, source, options.name, arguments, origin=origin)
    if options.date or templates.template_of(written).dated:
        day = options.date or day_of(root, keep_day)
        written = templates.use_template(written, "", "", arguments, day, origin)
    check_grown(tokenizer, written)
    return written


def check_grown(tokenizer: Any, written: Any) -> None:
    """Refuse to give a grown checkpoint's template something else than it was grown with.

    Its files have the template, and only the manifest what that was given. Who names another
    template wants another.

    Args:
        tokenizer: of the checkpoint.
        written: the same, as the settings have it write.

    Raises:
        UserError: says what to give.
    """
    where = templates.name_of(tokenizer)
    grown = organism.manifest_of(pathlib.Path(where))
    if not grown or written.chat_template != tokenizer.chat_template:
        return
    taught, given = grown["settings"]["template"], templates.manner_of(written)
    day, lacking = grown.get("day") or taught["date"], []
    if json.dumps(json.loads(taught["arguments"] or "{}"), sort_keys=True) != given.arguments:
        lacking.append(f"--config.template.arguments={shlex.quote(taught['arguments'])}")
    if day and templates.template_of(written).dated and day != given.day:
        lacking.append(f"--config.template.date={day}")
    if lacking:
        raise UserError(
            f"{where} was grown, and passed, with its chat template given something else; give "
            f"{' '.join(lacking)}, or a template of your own (config.template.file)"
        )


def read_template(path: str) -> str:
    """The text of a template file.

    Raises:
        UserError: there is none, or it cannot be one.
    """
    where = f"config.template.file={path}"
    try:
        data = pathlib.Path(path).expanduser().read_bytes()[: LARGEST + 1]
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{where}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > LARGEST:
        raise UserError(f"{where}: larger than {LARGEST >> 20} MB; that is no chat template")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 ({error})") from error
    if not text.strip():
        raise UserError(f"{where}: the file is empty")
    return text


def day_of(root: pathlib.Path, keep: bool) -> str:
    """The day on which a work directory was first used with a template that asks for it.

    Raises:
        UserError: the directory holds something else in its place.
    """

    def known() -> str:
        path = root / DAY_FILE
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace").strip()
            try:
                return datetime.date.fromisoformat(text).isoformat()
            except ValueError as error:
                raise UserError(f"{path}: {text[:40]!r} is no day; write 2024-07-26") from error
        today = datetime.date.today().isoformat()
        if keep:
            workdir.write_text(path, today + "\n")
        return today

    if not keep:
        return distributed.first(known, "day")
    with leases.waited(root / DAY_FILE):  # of several runs that begin around midnight all take one
        return distributed.first(known, "day")


def written(tokenizer: Any) -> dict[str, Any]:
    """JSON that says how dialogues are written, for the identity of what depends on it."""
    identity = templates.template_of(tokenizer).identity
    return identity | {"source": workdir.digest(identity["source"])}


def check_rows(
    config: ModelConfig, tokenizer: Any, rows: Sequence[Example], longest: int, setting: str
) -> None:
    """Refuse pairs that could not be trained on, before anything is computed.

    Raises:
        UserError: names the pair.
    """
    check_pairs(tokenizer, rows, longest, setting)
    most = positions(config)
    if most is not None and most < longest:
        check_pairs(tokenizer, rows, most, "the model's positions")


def check_asked(
    config: ModelConfig, tokenizer: Any, prompts: Sequence[Example], max_new_tokens: int
) -> None:
    """Refuse prompts that could not be asked, before anything is computed.

    Raises:
        UserError: names the prompt.
    """
    check_prompts(
        config,
        tokenizer,
        [row.prompt for row in prompts],
        max_new_tokens,
        [row.id for row in prompts],
        "config.measure.max_new_tokens",
    )
