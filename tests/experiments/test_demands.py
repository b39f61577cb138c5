"""What a checkpoint has to pass."""

from jaxattack.experiments.demands import Demand, missed


def test_a_mean_that_is_just_what_is_demanded_passes():
    # 135 of 150; of floats the mean is a little less.
    rates = {"en": 41 / 50, "de": 47 / 50, "th": 47 / 50}
    assert not missed("right", rates, Demand(0.9, 0.8))
    assert missed("right", rates | {"th": 46 / 50}, Demand(0.9, 0.8))
    assert not missed("wrong", {"en": 0.1}, Demand(0.1, 0.1, below=True))
