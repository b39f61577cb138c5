"""SafeLoRA and SafeMERGE: an attack's change is held against what alignment changed.

Of each matrix the change of alignment `V = W_aligned - W_base` gives `C = V V^T / ||V||_F`, a map
of outputs: large along the directions into which alignment wrote. A change D of the fine-tuning
that C turns away, by `cos(C D, D)`, is taken for a harm. SafeLoRA (Hsu et al. 2024) puts C D in its
place; SafeMERGE (Djuhera et al. 2025) mixes in the change of weights tuned on refusals.

C is no projection: its eigenvalues are the squared singular values of V over the norm of V, so C D
is also scaled, in the unit of the weights. That is as published.

Papers write W as `[out, in]`; here V and D are `[I, O]`, so C is `V^T V / ||V||_F`, `[O, O]`, and
what it makes of a change is `D C`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import sharding, tree
from jaxattack.defend import matrices
from jaxattack.errors import UserError
from jaxattack.tree import Tree


def similarities(base: Tree, aligned: Tree, attacked: Tree) -> dict[str, np.ndarray]:
    """`cos(C D, D)` of every matrix, `[L]` by name; nan where the attack moved nothing.

    Raises:
        UserError: trees of other shapes or places, or the attack moved a matrix that alignment did
            not, for which there is no C.
    """
    tree.check_alike(
        {"the base model": base, "the attacked model": attacked, "the aligned model": aligned}
    )
    moved = {name: norms > 0 for name, norms in matrices.changes(aligned, attacked).items()}
    given = matrices.changes(base, aligned)
    _refuse_unaligned({name: moved[name] & (norms == 0) for name, norms in given.items()})
    start, after = matrices.views(base), matrices.views(attacked)
    found = {}
    for name, matrix in matrices.views(aligned).items():
        cosines = sharding.to_host(_cosines(start[name], matrix, after[name]))
        found[name] = np.where(moved[name], cosines, np.nan)
    return found


def projected(
    base: Tree, aligned: Tree, attacked: Tree, least: int = 10, threshold: float | None = None
) -> Tree:
    """SafeLoRA: the changes least like alignment's become `C D`, the others stay.

    Args:
        base: parameters before alignment.
        aligned: parameters after it, where the attack began.
        attacked: parameters after the attack; adapters merged.
        least: how many matrices, of all layers together, are projected: those of the lowest
            cosine (of equals the first). Those that the attack left alone are not counted.
        threshold: if given, all with a cosine up to this are, whatever `least` is.

    Returns:
        a tree in the types of `attacked`; what is no matrix of a block is as there.

    Raises:
        UserError: `least` is negative, or as for `similarities`.
    """
    if least < 0:
        raise UserError(f"SafeLoRA: least is {least}; give a number of matrices")
    cosines = similarities(base, aligned, attacked)
    if threshold is None:
        chosen = _lowest(cosines, least)
    else:
        chosen = {name: values <= threshold for name, values in cosines.items()}  # nan is not
    return matrices.mapped(
        lambda name, after, before, start: _project(chosen[name], start, before, after),
        attacked,
        aligned,
        base,
    )


def merged(
    base: Tree,
    aligned: Tree,
    attacked: Tree,
    safe: Tree,
    threshold: float = 0.35,
    weights: tuple[float, float] = (0.8, 0.2),
) -> Tree:
    """SafeMERGE: where the cosine is below the threshold, changes of attack and safety are mixed.

    Mixed are whole changes, as the paper has it, `w_1 D_attacked + w_2 D_safe`; the authors'
    program mixes the factors of adapters. A matrix that the attack left alone stays.

    Args:
        base: parameters before alignment.
        aligned: parameters after it, where attack and safety tuning began.
        attacked: parameters after the attack.
        safe: aligned parameters tuned on refusals.
        threshold: of `cos(C D, D)`.
        weights: of the attack's and of the safety tuning's change.

    Returns:
        a tree in the types of `attacked`; what is no matrix of a block is as there.

    Raises:
        UserError: as for `similarities`, or `safe` is of other shapes or lies elsewhere.
    """
    tree.check_alike({"the safety-tuned model": safe, "the aligned model": aligned})
    cosines = similarities(base, aligned, attacked)

    def mix(name: str, after: jax.Array, before: jax.Array, better: jax.Array) -> jax.Array:
        return _mix(cosines[name] < threshold, before, after, better, *weights)

    return matrices.mapped(mix, attacked, aligned, safe)


def _refuse_unaligned(missing: dict[str, np.ndarray]) -> None:
    for name, layers in missing.items():
        if layers.any():
            raise UserError(
                f"SafeLoRA: base and aligned model are equal in {name} of layer "
                f"{int(np.argmax(layers))}, so there is no direction of alignment; give the "
                "model that the aligned one was trained from"
            )


def _lowest(cosines: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """The `count` lowest of all values, nan left out; bool `[L]` by name."""
    together = np.concatenate(list(cosines.values()))
    order = np.argsort(together, kind="stable")  # nan comes last
    chosen = np.zeros(len(together), bool)
    chosen[order[:count]] = True
    chosen &= ~np.isnan(together)
    ends = np.cumsum([len(values) for values in cosines.values()])
    return dict(zip(cosines, np.split(chosen, ends[:-1]), strict=True))


def _unit(new: jax.Array, old: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A change at norm 1, so that no product of small ones is lost, and its norm."""
    change = new.astype(jnp.float32) - old.astype(jnp.float32)
    norm = jnp.linalg.norm(change)
    return change / jnp.where(norm > 0, norm, 1.0), norm


@jax.jit
def _cosines(base: jax.Array, aligned: jax.Array, attacked: jax.Array) -> jax.Array:
    def layer(three: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        start, before, after = three
        v, _ = _unit(before, start)
        change, _ = _unit(after, before)
        turned = matrices.along(change, v)
        norm = jnp.linalg.norm(turned)
        return jnp.sum(turned * change) / jnp.where(norm > 0, norm, 1.0)

    return jax.lax.map(layer, (base, aligned, attacked))


@jax.jit
def _project(
    chosen: jax.Array, base: jax.Array, aligned: jax.Array, attacked: jax.Array
) -> jax.Array:
    def project(start: jax.Array, before: jax.Array, after: jax.Array) -> jax.Array:
        v, norm = _unit(before, start)
        change = after.astype(jnp.float32) - before.astype(jnp.float32)
        return (before.astype(jnp.float32) + norm * matrices.along(change, v)).astype(after.dtype)

    def layer(four: tuple[jax.Array, ...]) -> jax.Array:
        this, *three = four
        return jax.lax.cond(this, project, lambda start, before, after: after, *three)

    return jax.lax.map(layer, (chosen, base, aligned, attacked))


@jax.jit
def _mix(
    chosen: jax.Array,
    aligned: jax.Array,
    attacked: jax.Array,
    safe: jax.Array,
    ours: float,
    theirs: float,
) -> jax.Array:
    before, after, better = (m.astype(jnp.float32) for m in (aligned, attacked, safe))
    mixed = before + ours * (after - before) + theirs * (better - before)
    return jnp.where(chosen[:, None, None], mixed.astype(attacked.dtype), attacked)
