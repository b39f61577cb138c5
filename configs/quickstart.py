"""The fragility study in short, on the shipped organism: minutes on a laptop.

    jaxattack --config=configs/quickstart.py --workdir=runs/quickstart

(installed, without a checkout: `--config=quickstart`, from anywhere).
Attacks the aligned organism in each of its twelve languages, measures every language, and for
four of them scores the weights with SIL, stitches, rewinds, freezes and attacks again, beside
other masks of the same size. Writes results.json and report.html into the work directory. The
whole study, with every control and three seeds, is configs/fragility.py.

On a checkpoint and data of your own (columns id, language, prompt, response):

    jaxattack --config=configs/quickstart.py --workdir=runs/mine --config.model=path/or/hub-id \
        --config.data.pairs=jsonl:pairs.jsonl --config.data.prompts=jsonl:prompts.jsonl
"""

from ml_collections import config_dict

from jaxattack.experiments.fragility.settings import defaults


def get_config() -> config_dict.ConfigDict:
    """Returns the settings; every one can be overridden as --config.<name>=<value>."""
    config = defaults()  # `jaxattack --config=configs/quickstart.py --help` lists them
    config.sections = ("transfer", "localize", "shared", "pathways")
    config.seeds = (0,)  # which pairs, in which order; random masks

    config.transfer.benign = False
    config.transfer.doses = ()

    config.localize.max_languages = 4  # of those attacked
    config.localize.fractions = (0.01, 0.05, 0.1, 0.2)
    config.localize.control_fraction = 0.2
    config.localize.controls = (
        "random",
        "matched_random",
        "magnitude",
        "snip",
        "fisher",
        "other",
        "complement",
    )
    config.localize.ways = ()
    config.localize.rewind = False

    config.shared.languages = "localized"

    config.pathways.fractions = (0.2,)
    config.pathways.random = False
    config.pathways.rounds = 1

    config.measure.prompts = 24  # per language and kind; 0 for all
    return config
