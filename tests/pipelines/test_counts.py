import pytest

from pipelines.dialects import counts
from pipelines.dialects.anthropic_messages import usage as messages
from pipelines.dialects.ollama_chat import lines as ollama
from pipelines.dialects.openai_chat import usage as chat
from pipelines.dialects.openai_responses import usage as responses

READERS = {
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
def test_a_count_is_the_same_in_every_dialect(dialect, said, meant):
    usage = READERS[dialect](said)
    assert (usage.input, usage.output) == (meant, 1)


@pytest.mark.parametrize("said", [None, [], {}, float("nan"), float("inf")])
def test_what_is_no_number_counts_nothing(said):
    assert counts.count(said) == 0
