"""How much of two masks is common, and how much would be by chance."""

from __future__ import annotations

import math

from jaxattack import tree
from jaxattack.localize.masks import count, density, intersection, profile, sizes, union
from jaxattack.tree import Tree


def jaccard(a: Tree, b: Tree) -> float:
    """Size of the intersection over size of the union; 1.0 for two empty masks.

    Example:
        >>> a, b = {"w": np.array([True, True, False])}, {"w": np.array([True, False, False])}
        >>> ja.jaccard(a, b)
        0.5
    """
    tree.check_alike({"the first mask": a, "the second": b})
    either = count(union(a, b))
    return count(intersection(a, b)) / either if either else 1.0


def chance_jaccard(a: Tree, b: Tree) -> float:
    """Expected overlap of two random masks of these densities (ratio of expectations)."""
    p, q = density(a), density(b)
    either = p + q - p * q
    return p * q / either if either else 1.0


def null_jaccard(
    a: Tree, b: Tree, z: float = 1.959963984540054, movable: tuple[Tree, Tree] | None = None
) -> tuple[float, float]:
    """Between which overlaps 95 % of random masks lie that have these two's densities per tensor.

    With `movable` the random masks are drawn from what could be selected, as the two were: masks
    of what each of them was chosen from (`with_score`). In each weight tensor the weights that the
    two draws take from the part they share are hypergeometric, and of those the ones both take are
    again; of the sum over tensors the normal approximation is taken.
    """
    tree.check_alike({"the first mask": a, "the second": b})
    first, second, all_of = (list(counts.values()) for counts in (profile(a), profile(b), sizes(a)))
    ours = theirs = shared = all_of
    if movable is not None:
        from_a, from_b = (union(m, s) for m, s in zip((a, b), movable, strict=True))
        ours, theirs = list(profile(from_a).values()), list(profile(from_b).values())
        shared = list(profile(intersection(from_a, from_b)).values())
    mean = variance = least = most = 0.0
    for p, q, n, m, s in zip(first, second, ours, theirs, shared, strict=True):
        if not s:
            continue
        x, x2 = _hypergeometric(n, s, p)  # of the first mask in the shared part
        y, y2 = _hypergeometric(m, s, q)
        mean += x * y / s
        given = (s * x - x2) * (s * y - y2) / (s * s * max(s - 1, 1))  # E[variance | x, y]
        variance += given + (x2 * y2 - x * x * y * y) / (s * s)
        low_x, low_y = max(0, p - (n - s)), max(0, q - (m - s))
        least += max(0, low_x + low_y - s)
        most += min(p, q, s)
    either = sum(first) + sum(second)

    def overlap(common: float) -> float:
        common = min(max(common, least), most)
        return common / (either - common) if either else 1.0

    spread = z * math.sqrt(max(variance, 0.0))
    return overlap(mean - spread), overlap(mean + spread)


def _hypergeometric(all_of: int, good: int, drawn: int) -> tuple[float, float]:
    """Mean and mean square of how many of `good` among `all_of` are drawn."""
    mean = drawn * good / all_of
    variance = mean * (all_of - good) / all_of * (all_of - drawn) / max(all_of - 1, 1)
    return mean, variance + mean * mean
