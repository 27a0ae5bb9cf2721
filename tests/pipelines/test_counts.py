from collections.abc import Callable
from typing import Any

import pytest

from pipelines.conversation import Usage
from pipelines.dialects import counts
from pipelines.dialects.anthropic_messages import usage as messages
from pipelines.dialects.ollama_chat import lines as ollama
from pipelines.dialects.openai_chat import usage as chat
from pipelines.dialects.openai_responses import usage as responses

READERS: dict[str, Callable[[Any], Usage | None]] = {
    "openai_chat": lambda count: chat.read_usage({"prompt_tokens": count, "completion_tokens": 1}),
    "openai_responses": lambda count: responses.read_usage({"input_tokens": count, "output_tokens": 1}),
    "anthropic_messages": lambda count: messages.read_usage({"input_tokens": count, "output_tokens": 1}),
    "ollama_chat": lambda count: ollama.read_usage({"prompt_eval_count": count, "eval_count": 1}),
}


@pytest.mark.parametrize("dialect", READERS)
@pytest.mark.parametrize(
    ("said", "meant"),
    [(0, 0), (7, 7), (7.0, 7), (2**53, 2**53), (2**53 + 1, 0), (10**30, 0), (1e300, 0), (-7, 0), (True, 0), ("7", 0)],
)
def test_a_count_is_the_same_in_every_dialect(dialect: str, said: Any, meant: int) -> None:
    usage = READERS[dialect](said)
    assert usage is not None
    assert (usage.input, usage.output) == (meant, 1)


@pytest.mark.parametrize("read", [chat.read_usage, responses.read_usage])
@pytest.mark.parametrize(
    ("said", "dollars"),
    [
        ({}, None),
        ({"cost": 0.5}, 0.5),
        ({"cost": 0}, 0.0),
        ({"cost": True}, None),
        ({"cost": "0.5"}, None),
        ({"cost": -1.0}, None),
        ({"cost": float("nan")}, None),
        ({"cost": {"request_cost": 0.005, "total_cost": 0.00511}}, 0.00511),
        ({"cost": {"request_cost": 0.005}}, None),
        ({"cost_in_usd_ticks": 20_000_000}, 0.002),
        ({"estimated_cost": 0.25}, 0.25),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.024645}}, 0.024645),
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}, 0.021),
        ({"cost": 0, "is_byok": True, "cost_details": None}, None),
        ({"cost": 0.02, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.02}}, 0.02),
        ({"cost": 0.02, "cost_details": {"upstream_inference_cost": 0.02}}, 0.02),
    ],
)
def test_what_a_provider_says_that_it_cost(
    read: Callable[[Any], Usage], said: dict[str, Any], dollars: float | None
) -> None:
    assert read(said).cost == pytest.approx(dollars)


@pytest.mark.parametrize("said", [None, [], {}, float("nan"), float("inf")])
def test_what_is_no_number_counts_nothing(said: Any) -> None:
    assert counts.count(said) == 0
