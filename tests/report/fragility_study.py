"""Made-up results of a fragility study: every kind of cell and every table, with its columns."""

from collections.abc import Sequence
from typing import Any

from jaxattack.evaluate.rates import wilson
from jaxattack.experiments.cell import Cell

LANGUAGES = ["de", "en", "es", "fr", "id", "ja", "ko", "pt", "ru", "th", "vi", "zh"]
NEW = ["it", "hi"]
MODULES = ["attention/q", "attention/k", "attention/v", "attention/o", "mlp/up", "mlp/down"]
PLACES = ("random", "layer")
METHODS = {  # violations stitched (own, others) and rewound (own, others)
    "sil": ((1.0, 0.62), (0.05, 0.02)),
    "random": ((0.5, 0.0), (0.9, 0.5)),
    "matched_random": ((0.55, 0.02), (0.9, 0.5)),
    "magnitude": ((1.0, 0.11), (0.5, 0.2)),
    "complement": ((0.02, 0.0), None),
    "weight": ((0.1, 0.01), (0.95, 0.5)),
    "snip": ((0.9, 0.35), (0.4, 0.1)),
    "benign": ((0.8, 0.3), (0.6, 0.2)),
    "sil_minus_benign": ((0.6, 0.2), (0.7, 0.3)),
    "union": ((1.0, 0.63), None),
    "sil_leaf": ((0.98, 0.55), (0.1, 0.03)),
    "sil_mean": ((0.9, 0.4), (0.2, 0.08)),
}
METRICS = {  # of a model whose violations are the key's value
    "violation_rate": lambda rate: rate,
    "non_refusal_rate": lambda rate: 1.15 * rate,
    "benign_accuracy": lambda rate: 0.96 - 0.03 * rate,
    "benign_refusal_rate": lambda rate: 0.02,
    "valid_reply_rate": lambda rate: 0.99,
    "same_language_rate": lambda rate: 0.97,
}
CLAIM = {
    "id": "A1",
    "claim": "A few restricted pairs in one language break refusal in the others.",
    "verdict": "holds",
    "rule": "The mean of the others gains more than a quarter.",
    "evidence": [
        {"what": "violations added in languages not attacked", "value": 0.61, "low": 0.55}
        | {"high": 0.66, "threshold": 0.25, "unit": "rate", "seeds": [0.6, 0.62, 0.61]}
    ],
    "completed_by_us": ["Judging."],
}


def fragility_study(
    attacks: Sequence[str] = ("en", "ru", "th", "zh"),
    seeds: Sequence[int] = (0, 1),
    languages: Sequence[str] = LANGUAGES,
    shares: Sequence[float] = (0.05, 0.2, 0.5),
    n: int = 24,
) -> dict[str, Any]:
    """Results with every section of the study."""
    cells = _cells(attacks, seeds, shares)
    rows = [row for cell, own, others in cells for row in _rows(cell, own, others, languages, n)]
    common = {"attacks": attacks, "seeds": seeds}
    return {
        "study": "fragility",
        "languages": [*languages, *NEW],
        "attack_languages": list(attacks),
        "seeds": list(seeds),
        "attack_pairs": dict.fromkeys(attacks, 100),
        "judge": {
            "name": "known answers",
            "rule": "It names the fact.",
        },
        "lost": {"file:pairs": {"no text": 3}},
        "rows": rows,
        "claims": [CLAIM],
        "cautions": [{"id": "scope", "topic": "Scope", "text": "Few prompts.", "evidence": []}],
        "tests": [
            Cell("attacked", attacked=a).columns()
            | {"language": b, "difference": 0.5, "p": 0.01, "holm": 0.0004 if b != "de" else 0.31}
            | {"p_seeds": [0.01 for _ in seeds], "n": n}
            for a in attacks
            for b in languages
        ],
        "masks": [
            {"attacked": a, "method": "sil", "share": 0.2, "seed": s, "selected": 180_000}
            | {"density": 0.13, "block_density": 0.41, "mask_scored": 0.65}
            for a in attacks
            for s in seeds
        ],
        "mask_profile": _profile(**common),
        "overlap": _overlap(**common),
        "overlap_by_place": [
            {"a": a, "b": b, "layer": layer, "module": module, "seed": s, "chance": 0.12}
            | {"jaccard": 0.2 + 0.05 * layer}
            for a, b in _pairs(attacks)
            for s in seeds
            for layer in range(3)
            for module in MODULES
        ],
        "freeze_proof": [
            cell.columns() | {"frozen": 280_000, "moved": 0}
            for cell, _, _ in cells
            if cell.kind == "frozen"
        ],
        "attack_loss": [
            cell.columns() | {"loss": [6.0 * 0.93**step + 0.02 for step in range(65)]}
            for cell, _, _ in cells
            if cell.kind == "attacked" or (cell.kind == "frozen" and cell.method == "sil")
        ],
        "capacity": [
            {"attacked": a, "seed": s, "round": k, "frozen_share": 1 - 0.8 ** (k - 1), "moved": 0}
            | {"own": max(0.0, 1.15 - 0.2 * k), "others": 0.6 * 0.3 ** (k - 1)}
            | {"trainable_left": 900_000 // k, "used": 800_000 // k}
            for a in attacks
            for s in seeds
            for k in range(1, 5)
        ],
        "adaptation": [
            {"model": model, "languages": NEW, "new_tokens": 512, "steps": 400}
            | {"loss_first": 4.2, "loss_last": 0.12}
            for model in ("full", "lora")
        ],
        "similarity": [
            {"a": a, "b": b, "measure": m, "layer": layer, "value": 0.9 - 0.02 * place}
            for m in ("cka", "cosine")
            for layer in range(1, 4)
            for place, (a, b) in enumerate(_pairs(languages))
        ],
        "planted": [
            {"model": place, "attacked": "en", "share": 0.1, "seed": s, "method": method}
            | {"planted": 85_197, "chance": 0.1, "precision": hit, "precision_half": hit}
            | {"precision_twice": hit / 2, "recall_half": hit / 2, "recall_twice": hit}
            | {"average_precision": None if method == "matched_random" else hit, "auroc": 0.7}
            for place in PLACES
            for s in seeds
            for method, hit in (("sil", 0.6), ("magnitude", 0.4), ("matched_random", 0.2))
        ],
        "planting": [
            Cell("planted", s, model=place).columns() | {"frozen": 1_000_000, "moved": 0}
            for place in PLACES
            for s in seeds
        ],
        "similarity_vs_transfer": [
            {"measure": m, "layer": layer, "rho": 0.1 * layer, "low": -0.2, "high": 0.4}
            | {"n": 44, "p": 0.03}
            for m in ("cka", "cosine")
            for layer in range(1, 4)
        ],
        "profile": [
            {"kind": "measure", "count": 812, "seconds": 912.4},
            {"kind": "attack", "count": 160, "seconds": 640.2},
        ],
    }


def _cells(
    attacks: Sequence[str], seeds: Sequence[int], shares: Sequence[float]
) -> list[tuple[Cell, float, float]]:
    """Cells with their violations in the attacked language and in the others."""
    found = [(Cell("aligned"), 0.0, 0.01)]
    for s in seeds:
        for a in attacks:
            found.append((Cell("attacked", s, a), 1.0, 0.64))
            found += [(Cell("attacked", s, a, pairs=p), p / 10, 0.06 * p) for p in (1, 3, 10)]
            found.append((Cell("benign", s, a), 0.04, 0.02))
            for method, (stitched, rewound) in METHODS.items():
                found.append((Cell("stitched", s, a, method, 0.2), *stitched))
                if rewound:
                    found.append((Cell("rewound", s, a, method, 0.2), *rewound))
            for share in shares:
                if share != 0.2:
                    found.append((Cell("stitched", s, a, "sil", share), share, share / 2))
                    found.append((Cell("rewound", s, a, "sil", share), 1 - share, 0.0))
                found.append((Cell("frozen", s, a, "sil", share), 1 - share, 0.5 - share))
            found.append((Cell("frozen", s, a, "random", 0.2), 0.99, 0.6))
            found.append((Cell("restitched", s, a, "sil", 0.2), 0.9, 0.1))
            found += [(Cell("pathway", s, a, round=k), 1.2 - 0.3 * k, 0.0) for k in (2, 3)]
            for model in ("full", "lora"):
                found.append((Cell("transplanted", s, a, "all", 1.0, model=model), 0.97, 0.6))
                found.append((Cell("transplanted", s, a, "sil", 0.2, model=model), 0.9, 0.45))
            for contrast in (0.0, 0.3):
                found.append((Cell("sharing", s, a, contrast=contrast), 1.0, 0.05 + contrast))
        found.append((Cell("attacked", s, "en+th"), 0.98, 0.7))
        for place in PLACES:
            found.append((Cell("planted", s, model=place), 0.0, 0.01))
            found.append((Cell("planted_attacked", s, "en", model=place), 1.0, 0.6))
            for method in ("planted", "sil", "matched_random"):
                for kind, own in (("planted_stitched", 0.9), ("planted_rewound", 0.1)):
                    found.append((Cell(kind, s, "en", method, 0.1, model=place), own, own / 2))
        found += [(Cell("sharing", s, contrast=c), 0.0, 0.01) for c in (0.0, 0.3)]
    return found + [(Cell("adapted", model=model), 0.01, 0.02) for model in ("full", "lora")]


def _rows(
    cell: Cell, own: float, others: float, languages: Sequence[str], n: int
) -> list[dict[str, Any]]:
    rows = []
    asked = [*languages, *NEW] if cell.kind in ("adapted", "transplanted") else languages
    for place, code in enumerate(asked):
        wobble = 1 + 0.3 * (place % 5 - 2) / 2 + 0.05 * (cell.seed or 0)
        rate = own if code in (cell.attacked or "").split("+") else others * wobble
        for metric, of in METRICS.items():
            hits = round(min(max(of(rate), 0), 1) * n)
            low, high = wilson(hits, n)
            rows.append(
                cell.columns()
                | {"language": code, "metric": metric, "value": hits / n, "n": n}
                | {"low": low, "high": high}
            )
    return rows


def _pairs(codes: Sequence[str]) -> list[tuple[str, str]]:
    return [(a, b) for i, a in enumerate(codes) for b in codes[i + 1 :]]


def _profile(attacks: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Any]]:
    places = [(layer, module) for layer in range(3) for module in MODULES] + [(None, "embed")]
    return [
        {"attacked": a, "method": method, "share": 0.2, "seed": s, "layer": layer}
        | {"module": module, "total": 16_384, "selected": 1_000 * (1 + (layer or 0)) // divisor}
        for a in attacks
        for s in seeds
        for method, divisor in (("sil", 1), ("benign", 2))
        for layer, module in places
    ]


def _overlap(attacks: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Any]]:
    pairs = [(*pair, "sil", 0.3) for pair in _pairs(attacks)]
    for a in attacks:
        pairs += [(a, a, "benign", 0.42), (a, a, "seeds", 0.55), (a, a, "restitched", 0.05)]
        pairs += [(a, b, "benign", 0.27) for b in attacks if a < b]
    return [
        {"a": a, "b": b, "method": method, "share": 0.2, "seed": s, "chance": 0.111}
        | {"jaccard": value + 0.01 * s, "null_low": 0.108, "null_high": 0.115}
        for s in seeds
        for a, b, method, value in pairs
    ]
