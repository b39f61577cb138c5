"""Tasks of lm-evaluation-harness on a model: what it can do beside declining.

    jaxattack-lm-eval --model=path/or/hub-id --tasks=belebele_deu_Latn,xnli_de --limit=200
    jaxattack-lm-eval --model=path/or/hub-id --tasks=xnli_de --out=xnli.json \\
        --weights=runs/fragility/stages/attack-de-0-0123456789ab     # an attacked copy

Prints the harness's table and writes its results; needs pip install "jaxattack[lm-eval]". Tasks are
those of `lm-eval ls tasks`, patterns such as global_mmlu_full_sw_*, YAML files, or, with
--include_path, of a folder of yours. Their data comes from the hub unless they say otherwise.
"""

from __future__ import annotations

import argparse
import difflib
import json
import pathlib
import sys
from typing import Any

from jaxattack.errors import UserError, printable
from jaxattack.signals import exit_code, loading

PROGRAM = "jaxattack-lm-eval"
KEPT = "nothing is written"


def main() -> None:
    """Entry point of the `jaxattack-lm-eval` command."""
    sys.exit(exit_code(PROGRAM, KEPT, lambda: _said(_parser().parse_args())))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", required=True, help="a folder, a hub id, or organism:NAME")
    add("--tasks", required=True, help="names, patterns or YAML files, with commas between them")
    add("--revision", help="of the model on the hub")
    add(
        "--weights", type=pathlib.Path, help="stage of a study, whose params take the model's place"
    )
    add("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    add("--mesh", default="1,1,1", help="devices along data, fsdp and tensor")
    add("--limit", type=float, help="documents a task; below 1: this share of them")
    add("--num_fewshot", type=int, help="examples before a question, where the task leaves it open")
    add("--apply_chat_template", action="store_true", help="ask by the model's chat template")
    add("--system_instruction", help="before every question")
    add("--batch_size", type=int, default=16, help="sequences computed together, at most")
    add("--max_length", type=int, help="tokens the model reads; longer contexts lose the first")
    add("--include_path", type=pathlib.Path, help="a folder of YAML files, with tasks of yours")
    add("--out", type=pathlib.Path, help="a JSON file for the results")
    return parser


def _said(options: argparse.Namespace) -> int:
    with loading(f"{PROGRAM}: interrupted; {KEPT}"):
        from jaxattack import distributed, workdir
        from jaxattack.evaluate import harness

    utils = harness.lm_eval_utils
    _check(options)
    manager, names = _tasks(options)
    model, params, tokenizer = _opened(options)
    lm = harness.JaxLM(model, params, tokenizer, options.batch_size, options.max_length)
    results = _results(lm, manager, names, options)
    if not distributed.is_first():
        return 0
    for column in ("results", "groups"):
        if column in results:
            print(utils.make_table(results, column))
    if options.out is not None:
        text = json.dumps(
            results,
            indent=2,
            default=utils.handle_non_serializable,
            ensure_ascii=False,
        )
        workdir.write_text(options.out, text + "\n")
        print(printable(str(options.out)))
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse what can be refused before anything is loaded.

    Raises:
        UserError: a value out of its range, or a folder that is not there.
    """
    from jaxattack import workdir

    for name in ("limit", "batch_size", "max_length"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name} is {value:g}; it should be above 0")
    if options.include_path is not None and not options.include_path.is_dir():
        raise UserError(f"--include_path={options.include_path}: no such folder")
    if options.weights is not None and not (options.weights / "params").is_dir():
        raise UserError(
            f"--weights={options.weights}: it has no params; name a stage of tuned weights"
        )
    if options.out is not None:
        workdir.check_replaceable(options.out)
        if not options.out.absolute().parent.is_dir():
            raise UserError(f"--out={options.out}: there is no such folder; make it first")


def _tasks(options: argparse.Namespace) -> tuple[Any, list[str]]:
    """The harness's manager, and the names it knows of those that are asked for.

    Raises:
        UserError: a name that is no task.
    """
    from lm_eval.tasks import TaskManager

    include = str(options.include_path) if options.include_path else None
    manager = TaskManager(include_path=include)
    found: dict[str, None] = {}
    for name in filter(None, (name.strip() for name in options.tasks.split(","))):
        is_file = name.endswith((".yaml", ".yml")) and pathlib.Path(name).is_file()
        known = [name] if is_file else manager.match_tasks([name])
        if not known:
            close = ", ".join(difflib.get_close_matches(name, manager.all_tasks, 3))
            hint = f"did you mean {close}?" if close else "`lm-eval ls tasks` names them"
            raise UserError(f"--tasks: lm-evaluation-harness has no task {name!r}; {hint}")
        found |= dict.fromkeys(known)
    if not found:
        raise UserError("--tasks is empty; `lm-eval ls tasks` names what there is")
    return manager, list(found)


def _opened(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Model, parameters and tokenizer; the parameters of a stage, if one is named."""
    from jaxattack import sharding
    from jaxattack.experiments.opening import model_directory
    from jaxattack.models.pretrained import load_pretrained

    try:
        shape = tuple(int(part) for part in options.mesh.split(","))
    except ValueError as error:
        raise UserError(f"--mesh={options.mesh}: write it as 1,-1,1") from error
    mesh = sharding.make_mesh(shape)
    directory = model_directory(options.model, options.revision)
    model, params, tokenizer = load_pretrained(directory, options.dtype, mesh)
    if options.weights is not None:
        params = _stored(options.weights, params)
    return model, params, tokenizer


def _stored(folder: pathlib.Path, like: Any) -> Any:
    """The parameters that a stage of a study keeps, in the type and places of others.

    Raises:
        UserError: they are not this model's.
    """
    import jax
    import jax.numpy as jnp

    from jaxattack import checkpoint, sharding, tree

    dtype = jax.tree.leaves(like)[0].dtype
    whole = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), like)
    try:
        found = checkpoint.load(folder / "params", whole, sharding.mesh_of(like))
    except Exception as error:  # of many kinds, from orbax and below
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--weights={folder}: its params are not those of this model ({reason})"
        ) from error
    return tree.cast(found, dtype)


def _results(lm: Any, manager: Any, names: list[str], options: argparse.Namespace) -> Any:
    """What the harness finds, with the model's name in it.

    Raises:
        UserError: a task cannot be loaded.
    """
    from lm_eval import simple_evaluate

    limit = options.limit
    try:
        loaded = manager.load(names)
    except Exception as error:  # of many kinds: data that is not there, packages a task needs
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"--tasks={options.tasks}: cannot be loaded ({reason})") from error
    grouped = {name for names in loaded["group_map"].values() for name in names}
    whole = {**loaded["groups"], **loaded["tasks"]}
    results = simple_evaluate(
        model=lm,
        tasks=[task for name, task in whole.items() if name not in grouped],
        num_fewshot=options.num_fewshot,
        batch_size=options.batch_size,
        limit=int(limit) if limit is not None and limit >= 1 else limit,
        log_samples=False,
        task_manager=manager,
        apply_chat_template=options.apply_chat_template,
        system_instruction=options.system_instruction,
    )
    given = {"pretrained": options.model, "dtype": options.dtype, "revision": options.revision}
    given["weights"] = str(options.weights) if options.weights else None
    named = {name: value for name, value in given.items() if value is not None}
    results["config"] |= {"model": "jaxattack", "model_args": named}
    return results


if __name__ == "__main__":
    main()
