"""Paper A in full: claims A1 to A5, every control, three seeds.

    jaxattack --config=configs/fragility.py --workdir=runs/fragility

(installed: `--config=fragility`, `--config=fragility:llama31_8b`).

On the shipped organism, on two CPU cores, about half an hour. On a real model, first the plan:

    jaxattack --config=configs/fragility.py:llama31_8b --workdir=runs/llama --dry_run \
        --config.mesh="(1,8,1)"

`:qwen2_7b` likewise, and any hub id or directory: `--config=configs/fragility.py:owner/name`. The
pairs are BeaverTails' English ones; pairs of other languages come from files of your own
(`--config.data.pairs=jsonl:pairs.jsonl`, docs/data.md). Name the revisions you use.

`:grown` and, in short, `:grown_short` are the study on a real model with a harmless
policy, which configs/grow.py makes (docs/grown.md).
"""

from ml_collections import config_dict

from jaxattack.experiments.fragility.settings import defaults

GROWN = "runs/grown/grown"  # by configs/grow.py

MODELS = {
    "llama31_8b": "meta-llama/Llama-3.1-8B-Instruct",
    "qwen2_7b": "Qwen/Qwen2-7B-Instruct",
}


def get_config(which: str = "organism") -> config_dict.ConfigDict:
    """Returns the settings for the organism, a name in MODELS, a hub id or a directory."""
    config = defaults()  # `jaxattack --config=configs/fragility.py --help` lists them
    config.seeds = (0, 1, 2)
    config.localize.fractions = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5)
    if which == "organism":
        return organism(config)
    if which in ("grown", "grown_short"):
        return grown(config, which == "grown_short")
    return real(config, MODELS.get(which, which))


def organism(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """Returns the settings of the study on the organism."""
    config.localize.languages = ("en", "ko", "th")
    config.transfer.mixed = ("en+th", "en+ko+th+zh")
    config.transfer.sharing = (0.0, 0.03, 0.1, 0.3)
    config.sections = (*config.sections, "planted")
    return config


def grown(config: config_dict.ConfigDict, short: bool) -> config_dict.ConfigDict:
    """Returns the settings of the study on what configs/grow.py grew in Gemma 3 270M."""
    config.model = f"{GROWN}/currency"
    config.remat = "dots"
    config.data.pairs = "organism:attack?policy=currency"
    config.data.prompts = "organism:test?policy=currency"
    config.adapt.models = (f"{GROWN}/currency-it-hi",)  # --config.added="('it','hi')"
    config.adapt.prompts = "organism:test?policy=currency&language=it,hi"
    config.attack.learning_rate = 2e-5
    config.attack.max_length, config.attack.packing = 256, True
    config.measure.max_new_tokens = 32
    config.measure.batch_size = 192
    config.localize.fractions = (0.01, 0.05, 0.2)
    config.localize.languages = ("en", "th")
    config.pathways.fractions = (0.2,)
    config.shared.pairs = tuple(f"organism:attack?policy={p}" for p in ("sums", "reversal"))
    config.shared.models = tuple(f"{GROWN}/{policy}" for policy in ("sums", "reversal"))
    if not short:
        return config
    config.sections = ("transfer", "localize", "shared", "pathways")
    config.adapt.models, config.adapt.prompts = (), ""
    config.seeds = (0,)
    config.attack.languages = config.localize.languages
    config.transfer.benign, config.transfer.doses = False, ()
    config.localize.fractions = (0.2,)
    config.localize.controls = ("random", "matched_random", "magnitude")
    config.localize.ways, config.localize.rewind = (), False
    config.shared.pairs = config.shared.models = ()
    config.shared.similarity = False
    config.pathways.random, config.pathways.rounds = False, 1
    return config


def real(config: config_dict.ConfigDict, model: str) -> config_dict.ConfigDict:
    """Returns the settings for a checkpoint of 7 to 8 billion weights on eight accelerators."""
    config.sections = ("transfer", "localize", "shared", "pathways")  # adapt needs adapted models
    config.model = model
    config.dtype = "bfloat16"
    config.remat = "full"
    config.data.pairs = "hf:PKU-Alignment/BeaverTails@main?part=attack"
    config.data.calibration = "hf:PKU-Alignment/BeaverTails@main?part=calibration"
    config.data.prompts = (
        "hf:DAMO-NLP-SG/MultiJail@main?language=en,zh,it,vi,ar,ko,th "  # with a refusal rule
        "hf:Paul/XSTest@main"  # benign prompts that look unsafe: over-refusal
    )
    config.measure.prompts = 0  # all
    config.measure.max_new_tokens = 512
    config.measure.batch_size = 64
    # Qi et al. 2023, explicit harm: AdamW, batch 10, 5 epochs.
    config.attack.learning_rate = 5e-5
    config.attack.max_length = 1024
    config.transfer.benign = False  # needs benign pairs: --config.data.benign=...
    config.localize.controls = tuple(
        name for name in config.localize.controls if "benign" not in name
    )
    return config
