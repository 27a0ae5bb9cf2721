"""`penstock` in a request's body: read, bounded, refused by name."""

from typing import Any

import pytest

from pipelines.errors import BadRequest
from pipelines.options import Options, TimeoutOptions, options_of
from pipelines.resilience import Timeouts


def test_nothing_asked_is_nothing_set() -> None:
    assert options_of({"model": "m"}) == Options() == options_of({"penstock": None}) == options_of({"penstock": {}})


def test_what_is_asked_is_read() -> None:
    body = {"penstock": {"recovery": "continue", "hedge": True, "fall_back": False, "timeouts": {"idle": 5}}}
    assert options_of(body) == Options("continue", True, False, TimeoutOptions(idle=5.0))


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ([], "penstock"),
        ({"recover": "continue"}, "penstock"),
        ({"recovery": "always"}, "penstock.recovery"),
        ({"hedge": "yes"}, "penstock.hedge"),
        ({"timeouts": {"idle": "5"}}, "penstock.timeouts.idle"),
        ({"timeouts": {"idle": 0}}, "penstock.timeouts.idle"),
        ({"timeouts": {"total": 3601}}, "penstock.timeouts.total"),
        ({"timeouts": {"connect": -1}}, "penstock.timeouts.connect"),
        ({"timeouts": {"first_event": float("nan")}}, "penstock.timeouts.first_event"),
    ],
)
def test_the_field_that_is_wrong_is_named(given: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        options_of({"penstock": given})
    assert caught.value.param == param
    assert caught.value.status == 400


def test_only_what_is_set_takes_the_place_of_the_configured_timeouts() -> None:
    assert TimeoutOptions(idle=1.5).over(Timeouts()) == Timeouts(idle=1.5)
    assert TimeoutOptions().over(Timeouts(total=7.0)) == Timeouts(total=7.0)
