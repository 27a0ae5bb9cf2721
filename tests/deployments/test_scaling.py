"""How many replicas there should be: the policy as a function, and as Serve's controller has it."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig

from deployments.app import gateway, provider
from deployments.config import GatewaySettings, ProviderSettings
from deployments.load.scaling import IN_FLIGHT, by_streams_in_flight, wanted
from deployments.settings.scaling_settings import AutoscalingSettings


def context(told: dict[str, list[float]], running: list[str], now: int, target: float = 100.0) -> Any:
    """What the policy looks at of Serve's `AutoscalingContext`; told: what each replica said, the latest last."""
    series = {name: [SimpleNamespace(value=value) for value in values] for name, values in told.items()}
    return SimpleNamespace(
        raw_metrics={IN_FLIGHT: series} if told else {},
        running_replicas=running,
        target_num_replicas=now,
        config=SimpleNamespace(target_ongoing_requests=target),
    )


@pytest.mark.parametrize(
    ("in_flight", "now", "expected"),
    [(0, 1, 1), (100, 1, 1), (101, 1, 2), (950, 2, 10), (100, 2, 2), (90, 2, 1), (0, 8, 1), (181, 3, 3), (180, 3, 2)],
)
def test_one_more_beyond_the_target_and_one_fewer_only_with_room_to_spare(
    in_flight: float, now: int, expected: int
) -> None:
    assert wanted(in_flight, 100.0, now) == expected


@given(some.floats(0, 1e6), some.floats(1, 1e4), some.integers(1, 500))
def test_a_decision_that_was_carried_out_stands(in_flight: float, target: float, now: int) -> None:
    decided = wanted(in_flight, target, now)
    assert decided >= 1
    assert decided * target >= in_flight * (1 - 1e-9)
    assert wanted(in_flight, target, decided) == decided


def test_the_latest_word_of_each_replica_counts() -> None:
    told = {"a": [900.0, 150.0], "b": [0.0, 120.0], "gone": [5000.0]}
    assert by_streams_in_flight(context(told, ["a", "b"], 2)) == (3, {})


def test_nothing_is_taken_away_while_a_replica_has_not_told() -> None:
    assert by_streams_in_flight(context({}, ["a", "b", "c"], 3))[0] == 3
    assert by_streams_in_flight(context({"a": [5.0]}, ["a", "b", "c"], 3))[0] == 3
    assert by_streams_in_flight(context({"a": [500.0]}, ["a", "b", "c"], 3))[0] == 5


def test_the_controller_loads_the_policy_without_our_code() -> None:
    scaled = AutoscalingSettings(min_replicas=2, max_replicas=7, target_in_flight=50.0)
    built = gateway(GatewaySettings(autoscaling=scaled))._bound_deployment
    config = built._deployment_config.autoscaling_config
    assert isinstance(config, AutoscalingConfig)
    assert (config.min_replicas, config.max_replicas, config.target_ongoing_requests) == (2, 7, 50.0)
    loading = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).__name__, 'deployments' in sys.modules)"
    policy = config.policy.get_serialized_policy_def()
    said = subprocess.run([sys.executable, "-I", "-c", loading], input=policy, capture_output=True, cwd="/", check=True)
    assert said.stdout.split() == [b"by_streams_in_flight", b"False"]


def test_without_autoscaling_the_number_is_fixed_and_placement_is_as_written() -> None:
    built = provider(ProviderSettings(kind="simulator", replicas=3, per_node=1, cpus=0.5))._bound_deployment
    assert built.num_replicas == 3
    assert built._deployment_config.autoscaling_config is None
    assert built._replica_config.max_replicas_per_node == 1
    assert built.ray_actor_options["num_cpus"] == 0.5


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than min_replicas"):
        AutoscalingSettings(min_replicas=3, max_replicas=2)
