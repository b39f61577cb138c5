"""Antidote: after the attack, the weights that harmful rows use most are taken out.

Huang et al. 2024 (2408.09600): Wanda's score `|w| ||x||_2` on harmful rows, and the top share of
every matrix is pruned. The authors prune the attack's update, adapters merged; here that is
`of="update"`, after which pruned weights are the aligned ones. `of="weights"` prunes the weights
themselves. Score and mask are those of `localize`.
"""

from __future__ import annotations

import jax

from jaxattack import tree
from jaxattack.defend.repair import scaled
from jaxattack.errors import UserError
from jaxattack.localize import importance, masks, scores, stitching
from jaxattack.tree import Tree

WHAT = ("update", "weights")


def removed(
    aligned: Tree, attacked: Tree, norms: Tree, fraction: float = 0.1, of: str = "update"
) -> Tree:
    """The attacked weights without the share that the harmful rows use most.

    Args:
        aligned: parameters before the attack.
        attacked: parameters after it.
        norms: norms of what each weight multiplies (`importance.input_norms`) over harmful rows,
            at the attacked model.
        fraction: share of each layer's matrix, in [0, 1], counts rounded half up; fewer where
            fewer weights have a score above 0.
        of: "update" scores `|tau| ||x||` and puts aligned weights back; "weights" scores
            `|theta| ||x||` and leaves zeros.

    Returns:
        a tree in the types of `attacked`; what is no matrix of a block is as there.

    Raises:
        UserError: a fraction out of its range, another `of`, or trees of other shapes or places.
    """
    if of not in WHAT:
        raise UserError(f"of is {of!r}; give one of {', '.join(WHAT)}")
    tree.check_alike(
        {"the attacked model": attacked, "the norms": norms, "the aligned model": aligned}
    )
    scored = scores.attack_vector(attacked, aligned) if of == "update" else attacked
    mask = masks.top_fraction(importance.wanda(scored, norms), fraction, scope="leaf")
    if of == "weights":
        return scaled(attacked, mask, 0.0)
    before = jax.tree.map(lambda old, new: old.astype(new.dtype), aligned, attacked)
    return stitching.rewind(attacked, before, mask)
