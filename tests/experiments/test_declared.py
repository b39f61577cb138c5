"""Declared settings: bounds, choices, nearest names, what the text of a flag stands for."""

import pytest

from jaxattack.errors import UserError
from jaxattack.experiments import declared, overrides
from jaxattack.experiments.backdoor import settings as backdoor
from jaxattack.experiments.fragility.settings import Settings, defaults
from jaxattack.experiments.organism import study as organism

KINDS = (Settings, backdoor.Settings, organism.Settings)


def overridden(path, text, kind=Settings, config=None):
    config = config or (defaults() if kind is Settings else backdoor.defaults())
    overrides.override(config, kind, path, text)
    return declared.freeze(config, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_declared(kind):
    for name, hint, rule in declared.declared(kind):
        assert rule is not None, name
        assert rule.help, name
        if hint in (int, float) or "int" in str(hint) or "float" in str(hint):
            assert rule.bounds or rule.check, name


@pytest.mark.parametrize("kind", KINDS[:2])
def test_the_defaults_obey_their_declarations(kind):
    settings = kind()
    assert declared.freeze(declared.config_of(settings), kind) == settings


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("attack.languages", "en", ("en",)),
        ("attack.languages", "['en','th']", ("en", "th")),
        ("attack.languages", "('en')", ("en",)),
        ("sections", "('transfer')", ("transfer",)),
        ("seeds", "3", (3,)),
        ("seeds", "0,1,2", (0, 1, 2)),
        ("seeds", "(0)", (0,)),
        ("localize.fractions", "0.1", (0.1,)),
        ("localize.fractions", "(1,)", (1.0,)),
        ("transfer.doses", "()", ()),
        ("attack.learning_rate", "'1e-5'", 1e-5),
        ("attack.epochs", "1e1", 10),
        ("attack.clip", "1", 1.0),
        ("report.replies", "yes", True),
        ("report.replies", "1", True),
        ("report.replies", None, True),
        ("transfer.benign", "False", False),
        ("mesh", "1,1,1", (1, 1, 1)),
        ("revision", "None", None),
        ("revision", "main", "main"),
    ],
)
def test_text_stands_for_a_value(path, text, value):
    found = overridden(path, text)
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("attack.lr", "1", "did you mean learning_rate?"),
        ("attack.learning-rate", "1", "did you mean learning_rate?"),
        ("atack.epochs", "1", "did you mean attack?"),
        ("epochs", "1", "did you mean --config.attack.epochs?"),
        ("attack", "1", "config.attack is a section; its settings are: languages, pairs"),
        ("attack.epochs.x", "1", "config.attack.epochs is no section"),
        ("attack.languages", "en,th", "write --config.attack.languages=\"('en','th')\""),
        ("attack.languages", "en th", "write \"('en','th')\""),
        ("attack.languages", None, "has no value"),
        ("transfer.mixed", "('en+en',)", "'en+en' names a language twice"),
        ("transfer.mixed", "('en',)", "'en' is no mixture"),
        ("localize.fractions", "(0.2,0.20000004)", "six digits"),
        ("localize.fractions", "(0.2,0.2)", "0.2 is there twice"),
        ("localize.exclude", "[", "no regular expression"),
        ("localize.controls", "('randon',)", "(perhaps random)"),
        ("attack.learning_rate", "1e-5f", "should be a number"),
        ("attack.learning_rate", "-1", "above 0"),
        ("attack.learning_rate", "nan", "above 0"),
        ("attack.learning_rate", "inf", "at most 1e+38"),
        ("attack.learning_rate", "9" * 400, "at most 1e+38"),
        ("attack.weight_decay", "nan", "between 0 and 100"),
        ("attack.warmup", "10", "at least 0 and below 1"),
        ("attack.warmup", "1", "at least 0 and below 1"),
        ("attack.epochs", "1000000000", "between 1 and 10000"),
        ("attack.epochs", "1.5", "should be a whole number"),
        ("attack.clip", "None", "should be a number"),
        ("seeds", "(-1,)", "between 0 and 2147483647, not -1"),
        ("seeds", "(0,0)", "0 is there twice"),
        ("seeds", "((0,),)", "plain values"),
        ("seeds", "()", "give at least one"),
        ("sections", "()", "give at least one"),
        ("measure.prompts", "all", "should be a whole number"),
        ("report.replies", "maybe", "True or False"),
        ("dtype", "bf16", "one of float32, bfloat16 (perhaps bfloat16)"),
        ("dtype", "float16", "one of float32, bfloat16"),
        ("mesh", "(1,1)", "three sizes"),
        ("mesh", "(-1,-1,1)", "three sizes"),
        ("mesh", "(0,1,1)", "three sizes"),
    ],
)
def test_what_cannot_be_is_refused_by_name(path, text, says):
    with pytest.raises(UserError) as error:
        overridden(path, text)
    assert says in str(error.value)
    assert f"config.{path.split('.')[0]}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("poison.languages", "('es+es',)", "names a language twice"),
        ("poison.rates", "(0,)", "above 0 and at most 1, not 0.0"),
        ("repair.rewound", "1.5", "between 0 and 1"),
        ("beear.layers", "(0,)", "between 1 and"),
        ("beear.place", "end", "one of before_answer, start"),
        ("tuning.wrapper", "Alpaca", "perhaps alpaca"),
        ("cleangen.alpha", "inf", "at most"),
    ],
)
def test_settings_of_the_backdoor_study_too(path, text, says):
    with pytest.raises(UserError, match=f"^config.{path} is") as error:
        overridden(path, text, backdoor.Settings)
    assert says in str(error.value)


def test_keys_of_a_config_file_are_compared(recwarn):
    config = defaults()
    with config.unlocked():
        config.attack.learning_rat = 1.0
    with pytest.raises(UserError, match="unknown keys: learning_rat; did you mean learning_rate"):
        declared.freeze(config, Settings)
    config = defaults()
    with config.unlocked(), config.ignore_type():
        config.attack = 3
    with pytest.raises(UserError, match="attack is 3; it is a section"):
        declared.freeze(config, Settings)


def test_help_says_value_meaning_unit_and_choices():
    lines = declared.help_lines(defaults(), Settings)
    assert len(lines) == len(list(declared.declared(Settings)))
    shown = "\n".join(lines)
    assert "--config.attack.epochs=5  passes over the pairs; between 1 and 10000" in shown
    assert "--config.dtype='float32'  number type of the weights; one of float32, bfloat16" in shown
    assert "in tokens" in shown


def test_a_mapping_is_a_section_with_bounds():
    rule = declared.Rule("share", at_least=0, at_most=1)
    with pytest.raises(UserError, match="should be between 0 and 1, not 2"):
        declared.check_value({"a": 2.0}, rule, "config.shares")
