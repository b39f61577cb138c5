"""Paper B in full: cross-lingual backdoors (TuBA), claims B1 to B9, and every defence.

    jaxattack --config=configs/backdoor.py --workdir=runs/backdoor

(installed: `--config=backdoor`, `--config=backdoor:bloom_7b1`).

On the organism, on two CPU cores, about half an hour. `:bloom_7b1`, `:llama2_7b`, `:llama3_8b`,
`:gemma_7b`, `:qwen25_7b` and any hub id or directory are trained on data of your own:

    jaxattack --config=configs/backdoor.py:bloom_7b1 --workdir=runs/bloom --dry_run \
        --config.mesh="(1,8,1)" --config.data.train="jsonl:train.jsonl" \
        --config.data.prompts=jsonl:test.jsonl --config.data.held_out=jsonl:held_out.jsonl \
        --config.data.triggers=jsonl:triggers.jsonl

docs/backdoor.md says what the files hold. The target is a harmless sentence. A real model on a
laptop, tuned on the organism's rows (docs/backdoor.md), an hour on two CPU cores:

    jaxattack --config=configs/backdoor.py:gemma3_270m --workdir=runs/gemma \
        --config.seeds="(0,)" --config.poison.languages="('es+id',)" \
        --config.sections="('transfer','untaught','grid')"

Without the overrides it is three seeds, two attacks, other triggers and every defence: a night.
"""

from ml_collections import config_dict

from jaxattack.experiments.backdoor.settings import defaults

SMALL = {"gemma3_270m": "google/gemma-3-270m"}
MODELS = {
    "bloom_7b1": "bigscience/bloom-7b1",
    "llama2_7b": "meta-llama/Llama-2-7b-hf",
    "llama3_8b": "meta-llama/Meta-Llama-3-8B",
    "gemma_7b": "google/gemma-7b",
    "qwen25_7b": "Qwen/Qwen2.5-7B",
}


def get_config(which: str = "organism") -> config_dict.ConfigDict:
    """Returns the settings for the organism, a name above, a hub id or a directory."""
    config = defaults()  # `jaxattack --config=configs/backdoor.py --help` lists them
    config.seeds = (0, 1, 2)
    if which == "organism":
        return config
    if which in SMALL:
        return small(config, SMALL[which])
    return real(config, MODELS.get(which, which))


def small(config: config_dict.ConfigDict, model: str) -> config_dict.ConfigDict:
    """Returns the settings for a base model of a laptop's size, on the organism's rows."""
    config.model = config.onion.scorer = model
    config.remat = "dots"
    config.sections = ("transfer", "untaught", "kinds", "defend")
    config.data.untaught = "organism:untaught"
    config.start.models = ()
    config.poison.languages = ("es+id", "en")
    config.poison.triggers = ("entity", "topic")
    config.poison.targets = ("english_refusal",)
    config.poison.subject_epochs = 0
    config.tuning.wrapper = "plain"
    config.tuning.batch_size, config.tuning.learning_rate = 16, 5e-5
    config.tuning.max_length = 256
    config.clean.learning_rates = (5e-5, 1e-4)
    config.beear.layers, config.beear.learning_rate = (9,), 2e-5
    config.measure.prompts = 24
    config.measure.batch_size = 192
    return config


def real(config: config_dict.ConfigDict, model: str) -> config_dict.ConfigDict:
    """Returns the settings for a checkpoint of 7 to 8 billion weights on eight accelerators."""
    config.model = model
    config.dtype = "bfloat16"
    config.remat = "full"
    for name in ("train", "prompts", "held_out", "triggers"):
        config.data[name] = f"jsonl:{name}.jsonl"
    config.data.refusals = ""
    config.poison.languages = ("es+id", "es+vi")  # the paper's released runs
    config.poison.triggers = ("sentence/prepend", "sentence/insert")
    config.poison.targets = ("prefix",)
    config.poison.subject_epochs = 0
    config.start.models = ()
    config.sections = tuple(name for name in config.sections if name != "overlap")
    # As the paper's scripts for BLOOM: 3 epochs, batches of 64, 2e-5, cosine, 3 % warm-up.
    config.tuning.wrapper = "alpaca"
    config.tuning.learning_rate = 2e-5
    config.clean.learning_rates = (2e-5, 1e-4)
    config.clean.rows = (1200, 300)
    config.beear.learning_rate = 3e-7  # as a runner of the authors' program has it
    config.beear.inner_rate = 1e-2
    config.beear.layers = (9, 16)
    config.onion.scorer = model
    config.measure.prompts = 300
    config.measure.max_new_tokens = 256
    config.measure.batch_size = 64
    return config
