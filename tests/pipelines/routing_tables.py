"""Tables and strategies for the tests of routing."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from pipelines.routing.ask import Needs
from pipelines.routing.table import (
    BreakerState,
    ModelCard,
    Performance,
    ProviderEntry,
    ProviderState,
    ReplicaEntry,
    Table,
)

REPLICA = ReplicaEntry("r1", "http://10.0.0.1:1", limit=10)


def provider(name: str, *cards: ModelCard, state: ProviderState = "ready", **more: Any) -> ProviderEntry:
    """A provider with one replica if it is ready."""
    more.setdefault("replicas", (REPLICA,) if state == "ready" else ())
    return ProviderEntry(name, state, models=cards, **more)


def table(*providers: ProviderEntry) -> Table:
    return Table("epoch", 1, True, providers)


def able(card: ModelCard, needs: Needs) -> bool:
    """Whether the model can do what is needed, said once more and not by the code that is tested."""
    if any(getattr(needs, name) and not getattr(card, name) for name in ("vision", "audio", "tools", "json_schema")):
        return False
    return card.context == 0 or needs.context <= card.context


prices = st.none() | st.floats(0, 100)

_NAMES = ["small", "large", "meta/llama-3"]


def cards(name: str) -> st.SearchStrategy[ModelCard]:
    return st.builds(
        ModelCard,
        st.just(name),
        context=st.sampled_from([0, 1000, 8000]),
        max_output=st.sampled_from([0, 500, 4000]),
        vision=st.booleans(),
        audio=st.booleans(),
        tools=st.booleans(),
        json_schema=st.booleans(),
        input_price=prices,
        output_price=prices,
        quality=st.floats(0, 1),
    )


performances = st.builds(
    Performance,
    in_flight=st.integers(0, 3),
    error_rate=st.floats(0, 1),
    first_output=st.none() | st.floats(0, 60),
    tokens_per_second=st.none() | st.floats(0, 1000),
    output_tokens=st.none() | st.floats(0, 5000),
    breaker=st.sampled_from(list[BreakerState](["closed", "open", "half_open"])),
    open_until=st.floats(0, 200),
    prober=st.sampled_from(["", "gateway-1", "gateway-2"]),
)


@st.composite
def providers(draw: st.DrawFn, name: str) -> ProviderEntry:
    names = draw(st.lists(st.sampled_from(_NAMES), unique=True))
    models = tuple(draw(cards(model)) for model in names)
    state = draw(
        st.sampled_from(
            list[ProviderState](["ready", "ready", "ready", "ready", "unconfigured", "unreachable", "draining"])
        )
    )
    replicas = tuple(
        ReplicaEntry(f"{name}-{n}", "http://h:1", draw(st.integers(0, 30)), draw(st.integers(0, 9)), 10)
        for n in range(draw(st.integers(0, 3)))
    )
    return ProviderEntry(
        name,
        state,
        why="because" if state != "ready" else "",
        models=models,
        any_model=draw(st.booleans()),
        replicas=replicas,
        performance={model: draw(performances) for model in names if draw(st.booleans())},
    )


@st.composite
def ready_providers(draw: st.DrawFn, name: str) -> ProviderEntry:
    """One that can be asked, and that has a model `small` which can do everything, at any length."""
    entry = draw(providers(name))
    others = [card for card in entry.models if card.name != "small"]
    small = ModelCard("small", vision=True, audio=True, tools=True, json_schema=True, quality=draw(st.floats(0, 1)))
    models = tuple(draw(st.permutations([small, *others])))
    replicas = entry.replicas or (REPLICA,)
    return msgspec.structs.replace(entry, state="ready", why="", models=models, replicas=replicas)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """`alpha` can be asked whatever is needed (`ready_providers`); there may be others, in any state."""
    others = draw(st.lists(st.sampled_from(["beta", "gamma"]), unique=True))
    entries = [draw(ready_providers("alpha")), *(draw(providers(name)) for name in others)]
    return Table("epoch", 1, draw(st.booleans()), tuple(draw(st.permutations(entries))))
