import base64
import difflib
import random
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.conversation import File, Json, Message, Request, Text, ToolResult
from pipelines.dialects import DIALECTS
from pipelines.errors import BadRequest, ConfigurationError, Denied, Overloaded, UnknownModel
from pipelines.routing.ask import needs_of
from pipelines.routing.choose import SEARCHED, Ask, Decision, Needs, choose, pick
from pipelines.routing.table import ModelCard, Performance, ProviderEntry, ReplicaEntry, Table
from pipelines.routing.tasks import profile
from pipelines.routing.worth import WEIGHTS
from tests.pipelines.routing_tables import able, provider, table, tables

FAST = ModelCard("fast", input_price=0.1, output_price=0.4, quality=0.5)
CLEVER = ModelCard("clever", vision=True, context=100_000, input_price=3, output_price=15, quality=0.9)
SIMULATOR = provider("simulator", FAST, CLEVER)
OTHER = provider("other", ModelCard("fast", quality=0.4), ModelCard("meta-llama/llama-3"))
OPEN = provider("openrouter", any_model=True)
TABLE = table(SIMULATOR, OTHER, OPEN, provider("openai", state="unconfigured", why="OPENAI_API_KEY is not set"))


def decide(*wanted: str, among: Table = TABLE, now: float = 100.0, seed: int = 1, **more: object) -> Decision:
    return choose(among, Ask(wanted, **more), now, random.Random(seed).random)  # type: ignore[arg-type]


def names(decision: Decision) -> list[str]:
    return [candidate.name for candidate in decision.candidates]


wanted_names = st.sampled_from(
    ["auto", "alpha/small", "beta/large", "gamma/meta/llama-3", "small", "meta/llama-3", "alias", "nothing"]
)
answerable = st.sampled_from(["auto", "alpha/small", "small", "alias"])
asks = st.builds(
    Ask,
    st.tuples(st.lists(wanted_names, max_size=2), answerable, st.lists(wanted_names, max_size=2)).map(
        lambda drawn: (*drawn[0], drawn[1], *drawn[2])
    ),
    needs=st.builds(
        lambda capabilities, context: Needs(**dict.fromkeys(capabilities, True), context=context),
        st.sets(st.sampled_from(["vision", "audio", "tools", "json_schema"]), max_size=2),
        st.sampled_from([0, 500, 5000]),
    ),
    policy=st.sampled_from(sorted(WEIGHTS)),
    aliases=st.just({"alias": ("alpha/large", "auto")}),
    prompt_tokens=st.sampled_from([0, 2000, 200_000]),
    max_tokens=st.none() | st.integers(1, 10_000),
    allowed=st.sampled_from([(), (), ("alpha/*",), ("small",), ("*",)]),
    gateway=st.sampled_from(["", "gateway-1"]),
)
"""Each names something that `alpha` of `tables` answers, and that the key may use; the other names may lead nowhere."""


def attempt(among: Table, ask: Ask) -> Decision:
    decision = choose(among, ask, 100.0, random.Random(3).random)
    assert "alpha/small" in names(decision)
    return decision


@given(tables(), asks)
def test_a_model_that_lacks_a_capability_is_never_chosen(among: Table, ask: Ask) -> None:
    for candidate in attempt(among, ask).candidates:
        entry = among.provider(candidate.provider)
        assert entry is not None
        assert entry.state == "ready"
        assert entry.replicas
        for card in entry.models:
            assert card.name != candidate.model or able(card, ask.needs)


@given(tables(), asks)
def test_terms_add_up_to_the_score(among: Table, ask: Ask) -> None:
    for candidate in attempt(among, ask).candidates:
        assert sum(candidate.terms.values()) == pytest.approx(candidate.score)
        assert 0 <= candidate.score <= 1
        assert all(term >= 0 for term in candidate.terms.values())


@given(tables(), asks)
def test_breakers_change_the_order_and_never_the_set(among: Table, ask: Ask) -> None:
    healthy = Table("epoch", 1, among.settled, tuple(_with_closed_breakers(entry) for entry in among.providers))
    assert sorted(names(attempt(among, ask))) == sorted(names(attempt(healthy, ask)))


def _with_closed_breakers(entry: ProviderEntry) -> ProviderEntry:
    closed = {
        name: Performance(one.in_flight, one.attempts, one.error_rate, one.first_output)
        for name, one in entry.performance.items()
    }
    return ProviderEntry(
        entry.name,
        entry.state,
        entry.why,
        models=entry.models,
        any_model=entry.any_model,
        replicas=entry.replicas,
        performance=closed,
    )


@given(tables(), asks)
def test_nobody_is_listed_twice_and_the_line_fits_a_header(among: Table, ask: Ask) -> None:
    decision = attempt(among, ask)
    assert len(set(names(decision))) == len(decision.candidates)
    assert len(decision.explain) < 200
    assert decision.explain.isascii()
    assert decision.explain.isprintable()


@given(tables(), asks)
def test_a_decision_is_reproducible(among: Table, ask: Ask) -> None:
    assert attempt(among, ask) == attempt(among, ask)


def test_an_exact_name_is_that_provider() -> None:
    assert names(decide("simulator/fast")) == ["simulator/fast"]


def test_auto_takes_a_simulated_provider_only_while_no_real_one_is_set_up() -> None:
    simulated = provider("sim", FAST, simulated=True)
    missing = provider("openai", CLEVER, state="unconfigured")
    assert names(decide("auto", among=table(simulated, missing))) == ["sim/fast"]
    assert names(decide("auto", among=table(simulated, OTHER)))[0].startswith("other/")
    assert all(name.startswith("other/") for name in names(decide("auto", among=table(simulated, OTHER))))
    away = provider("openai", CLEVER, state="unreachable")
    with pytest.raises(Overloaded):
        decide("auto", among=table(simulated, away))
    assert names(decide("sim/fast", among=table(simulated, OTHER))) == ["sim/fast"]


def test_a_provider_that_takes_any_name_takes_one_with_slashes() -> None:
    assert names(decide("openrouter/meta-llama/llama-3")) == ["openrouter/meta-llama/llama-3"]


def test_a_bare_name_with_a_slash_is_found_where_its_first_part_is_no_provider() -> None:
    assert names(decide("meta-llama/llama-3")) == ["other/meta-llama/llama-3"]


def test_a_bare_name_is_scored_among_its_providers() -> None:
    assert names(decide("fast", policy="quality")) == ["simulator/fast", "other/fast"]


def test_fallbacks_stand_in_the_callers_order() -> None:
    assert names(decide("other/fast", "simulator/clever", "simulator/fast")) == [
        "other/fast",
        "simulator/clever",
        "simulator/fast",
    ]


def test_aliases_expand_in_order_and_may_name_aliases_and_auto() -> None:
    aliases = {"best": ("simulator/clever", "good"), "good": ("openai/gpt", "other/fast"), "loop": ("loop",)}
    assert names(decide("best", aliases=aliases)) == ["simulator/clever", "other/fast"]
    assert len(decide("any", aliases={"any": ("auto",)}).candidates) == 4
    with pytest.raises(UnknownModel):
        decide("loop", aliases=aliases)


def test_policies_prefer_what_they_say() -> None:
    assert names(decide("auto", policy="cheap"))[0] == "simulator/fast"
    assert names(decide("auto", policy="quality"))[0] == "simulator/clever"


def test_an_unknown_name_is_named_with_at_most_three_close_ones() -> None:
    many = table(provider("simulator", *(ModelCard(f"model-{n}") for n in range(9))))
    with pytest.raises(UnknownModel, match="'simulator/modle-1'") as caught:
        decide("simulator/modle-1", among=many)
    assert 1 <= caught.value.message.count("simulator/model-") <= 3
    with pytest.raises(UnknownModel, match="did you mean simulator/clever"):
        decide("clevr")


MANY = table(*(provider(f"p{n}", *(ModelCard(f"{n:03}-model-{m}") for m in range(100))) for n in range(60)))


def test_among_very_many_models_a_close_name_is_found_by_how_it_begins() -> None:
    with pytest.raises(UnknownModel, match=r"did you mean (p57/057-model-[0-9]+( or )?){3}\?"):
        decide("057-modle-1", among=MANY)


def test_close_names_are_of_what_the_key_may_use_only() -> None:
    secret = provider("acme", ModelCard("ft:gpt-5:merger"), ModelCard("ft:gpt-5:public"))
    aliases = {"ft:gpt-5:best": ("acme/ft:gpt-5:merger",), "ft:gpt-5:own": ("acme/ft:gpt-5:public",)}
    for allowed, expected in (
        ((), {"acme/ft:gpt-5:merger", "acme/ft:gpt-5:public", "ft:gpt-5:best", "ft:gpt-5:own"}),
        (("*public", "ft:gpt-5:own"), {"acme/ft:gpt-5:public", "ft:gpt-5:own"}),
        (("openai/*",), set()),
    ):
        said = set[str]()
        for wanted in ("ft:gpt-5:merge", "ft:gpt-5:publi", "ft:gpt-5:bes", "ft:gpt-5:ow"):
            with pytest.raises(UnknownModel) as caught:
                decide(wanted, among=table(secret), allowed=allowed, aliases=aliases)
            said.update(caught.value.message.partition("did you mean ")[2].rstrip("?").split(" or "))
        assert said - {""} == expected


def test_an_unknown_name_costs_a_bounded_search_and_one_that_is_passed_over_costs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []
    search = difflib.get_close_matches

    def counted(name: str, known: Collection[str], n: int) -> list[str]:
        compared.append(len(known))
        return search(name, known, n=n)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    wrong = [f"anthropic/claude-{n}" for n in range(17)]
    assert names(decide(*wrong, "p1/001-model-1", among=MANY)) == ["p1/001-model-1"]
    assert compared == []
    with pytest.raises(UnknownModel, match="'anthropic/claude-0'"):
        decide(*wrong, among=MANY)
    assert compared == [SEARCHED]


def test_an_unknown_name_cannot_break_a_log() -> None:
    with pytest.raises(UnknownModel) as caught:
        decide("a\r\nb: é" + "x" * 1000)
    assert caught.value.message.isprintable()
    assert caught.value.message.isascii()
    assert len(caught.value.message) < 250
    decision = decide("openrouter/a\r\nx: y" + "é" * 300)
    assert decision.explain.isprintable()
    assert len(decision.explain) < 200


def test_an_unconfigured_provider_says_why() -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY is not set"):
        decide("openai/gpt-4o")


def test_a_provider_without_replicas_is_overloaded() -> None:
    with pytest.raises(Overloaded) as caught:
        decide("simulator/fast", among=table(provider("simulator", FAST, replicas=())))
    assert caught.value.status == 503
    assert caught.value.retry_after is not None


AWAY = provider("openai", ModelCard("a", vision=True), state="unreachable")


@pytest.mark.parametrize(
    ("wanted", "more"),
    [
        (("auto",), {"needs": Needs(vision=True)}),
        (("a",), {"needs": Needs(vision=True)}),
        (("auto",), {"allowed": ("openai/*",)}),
        (("a",), {"allowed": ("openai/*",)}),
        (("azure/a", "openai/a"), {"allowed": ("openai/*",)}),
        (("azure/a", "auto"), {"needs": Needs(vision=True)}),
        (("nonsense", "openai/a"), {}),
        (("best",), {"aliases": {"best": ("azure/a", "openai/a")}, "needs": Needs(vision=True)}),
    ],
)
def test_while_the_one_that_could_answer_is_away_no_request_is_refused_for_good(
    wanted: tuple[str, ...], more: dict[str, Any]
) -> None:
    blind = provider("azure", ModelCard("a"))
    with pytest.raises(Overloaded, match="openai is unreachable") as caught:
        decide(*wanted, among=table(AWAY, blind), **more)
    assert (caught.value.status, caught.value.retryable) == (503, True)
    assert names(decide(*wanted, among=table(provider("openai", *AWAY.models), blind), **more))[0] == "openai/a"


def test_who_is_away_and_could_not_answer_either_is_not_waited_for() -> None:
    blind, deaf = provider("azure", ModelCard("a")), Needs(audio=True)
    unset = provider("openai", *AWAY.models, state="unconfigured")
    simulated = provider("sim", ModelCard("s", vision=True), state="unreachable", simulated=True)
    for wanted in ("auto", "a"):
        with pytest.raises(BadRequest):
            decide(wanted, among=table(AWAY, blind), needs=deaf)
        with pytest.raises(BadRequest):
            decide(wanted, among=table(unset, blind), needs=Needs(vision=True))
        with pytest.raises(BadRequest):
            decide(wanted, among=table(simulated, blind), needs=Needs(vision=True))
        with pytest.raises(Denied):
            decide(wanted, among=table(AWAY, blind), allowed=("other/*",))


def test_before_the_router_has_heard_everybody_a_name_is_not_called_unknown() -> None:
    with pytest.raises(Overloaded):
        decide("simulator/fast", among=Table())
    with pytest.raises(Overloaded):
        decide("late/model", among=Table("e", 1, False, (SIMULATOR,)))


def test_a_name_that_leads_nowhere_is_passed_over_while_another_leads_somewhere() -> None:
    decision = decide("openai/gpt-4o", "nonsense", "simulator/fast")
    assert names(decision) == ["simulator/fast"]
    assert "OPENAI_API_KEY" in decision.excluded["openai/gpt-4o"]
    with pytest.raises(ConfigurationError):
        decide("openai/gpt-4o", "nonsense")


@pytest.mark.parametrize(
    ("needs", "param"),
    [
        (Needs(vision=True), "messages"),
        (Needs(audio=True), "messages"),
        (Needs(tools=True), "tools"),
        (Needs(json_schema=True), "response_format"),
        (Needs(context=500), "messages"),
    ],
)
def test_a_named_model_that_cannot_is_refused_with_the_field(needs: Needs, param: str) -> None:
    bare = table(provider("p", ModelCard("m", context=100, tools=False, json_schema=False)))
    for wanted in ("p/m", "m", "auto"):
        with pytest.raises(BadRequest) as caught:
            decide(wanted, among=bare, needs=needs)
        assert (caught.value.status, caught.value.param) == (400, param)


PIXELS = base64.b64encode(b"\x89PNG").decode()
SCREENSHOTS: dict[str, tuple[str, dict[str, Json]]] = {
    "a result in Anthropic's words": (
        "anthropic_messages",
        {
            "max_tokens": 9,
            "messages": [
                {"role": "user", "content": "Click"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "t",
                            "content": [
                                {
                                    "type": "image",
                                    "source": {"type": "base64", "media_type": "image/png", "data": PIXELS},
                                }
                            ],
                        }
                    ],
                },
            ],
        },
    ),
    "a result in the words of Responses": (
        "openai_responses",
        {
            "input": [
                {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
                {
                    "type": "function_call_output",
                    "call_id": "c",
                    "output": [{"type": "input_image", "image_url": f"data:image/png;base64,{PIXELS}"}],
                },
            ]
        },
    ),
    "a file that is a picture": (
        "openai_chat",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "file",
                            "file": {"filename": "a.png", "file_data": f"data:image/png;base64,{PIXELS}"},
                        }
                    ],
                }
            ]
        },
    ),
}


@pytest.mark.parametrize("name", SCREENSHOTS)
def test_pictures_go_to_models_that_see_wherever_they_stand(name: str) -> None:
    dialect, body = SCREENSHOTS[name]
    request = DIALECTS[dialect].read_request({"model": "auto", **body})
    both = table(provider("p", ModelCard("blind", quality=0.9), ModelCard("seeing", vision=True, quality=0.1)))
    needs = needs_of(request)
    assert names(decide("auto", among=both, needs=needs)) == ["p/seeing"]
    assert profile(request).task == "vision"
    if needs.shown:
        assert names(decide("p/blind", among=both, needs=needs)) == ["p/blind"], "its provider judges"
    else:
        with pytest.raises(BadRequest, match="takes no images"):
            decide("p/blind", among=both, needs=needs)


def test_a_result_of_text_takes_no_model_that_sees() -> None:
    result = ToolResult("c", (Text("12 degrees"), File(data="JVBERi0=", media_type="application/pdf")))
    request = Request("auto", (Message("tool", (result,)),))
    assert needs_of(request) == Needs()
    assert profile(request).task == "tool_use"


def test_an_estimate_too_long_keeps_auto_away_and_lets_a_named_model_judge() -> None:
    short = table(provider("p", ModelCard("m", context=100)))
    assert names(decide("p/m", among=short, prompt_tokens=500)) == ["p/m"]
    with pytest.raises(BadRequest) as caught:
        decide("auto", among=short, prompt_tokens=500)
    assert caught.value.code == "context_length_exceeded"


def test_auto_asks_who_can_answer_at_such_length() -> None:
    both = table(provider("p", ModelCard("terse", max_output=100, quality=0.9), ModelCard("m", quality=0.1)))
    assert names(decide("auto", among=both, max_tokens=100))[0] == "p/terse"
    assert names(decide("auto", among=both, max_tokens=101)) == ["p/m"]
    assert names(decide("p/terse", among=both, max_tokens=101)) == ["p/terse"]
    with pytest.raises(BadRequest) as caught:
        decide("auto", among=table(provider("p", ModelCard("terse", max_output=100))), max_tokens=101)
    assert caught.value.param == "max_tokens"


def test_a_key_may_use_what_it_is_allowed_only() -> None:
    assert names(decide("auto", allowed=("simulator/f*",))) == ["simulator/fast"]
    assert names(decide("best", aliases={"best": ("other/fast",)}, allowed=("best",))) == ["other/fast"]
    with pytest.raises(Denied) as caught:
        decide("other/fast", allowed=("simulator/*",))
    assert caught.value.status == 403


def test_who_may_not_use_what_a_name_stands_for_does_not_learn_what_it_is() -> None:
    secret = table(provider("acme", ModelCard("merger", vision=True)), provider("open", ModelCard("m")))
    for wanted in ("auto", "best", "outer", "merger", "acme/merger"):
        aliases = {"best": ("acme/merger",), "outer": ("best",)}
        with pytest.raises(Denied, match=f"^this key may not use the model {wanted}$"):
            decide(wanted, among=secret, allowed=("other/*",), aliases=aliases)


def test_a_pattern_with_a_slash_is_of_a_provider() -> None:
    resold = provider("openrouter", ModelCard("openai/gpt-5"), ModelCard("gpt-5"))
    both = table(provider("openai", ModelCard("gpt-5")), resold)
    for wanted in ("gpt-5", "auto", "openai/gpt-5"):
        assert names(decide(wanted, among=both, allowed=("openai/*",))) == ["openai/gpt-5"]
    # Where nobody is called `openai`, the name is that of a model of another provider.
    for among, wanted in ((both, "openrouter/openai/gpt-5"), (table(resold), "openai/gpt-5")):
        for allowed in (("openai/*",), ("openai/gpt-5",)):
            with pytest.raises(Denied):
                decide(wanted, among=among, allowed=allowed)
        for allowed in (("openrouter/*",), ("*gpt-5",), ("*",)):
            assert names(decide(wanted, among=among, allowed=allowed)) == ["openrouter/openai/gpt-5"]
    assert len(names(decide("gpt-5", among=both, allowed=("gpt-*",)))) == 2
    assert names(decide("best", among=both, aliases={"best": ("openrouter/gpt-5",)}, allowed=("best",)))
    assert len(names(decide("auto", among=both, allowed=("auto",)))) == 3


def test_who_was_asked_already_is_not_asked_again() -> None:
    asked = frozenset({("simulator", "fast")})
    assert names(decide("simulator/fast", "other/fast", excluded=asked)) == ["other/fast"]
    assert decide("simulator/fast", excluded=asked).candidates == ()


def test_no_name_at_all_is_a_bad_request() -> None:
    with pytest.raises(BadRequest) as caught:
        decide()
    assert caught.value.param == "model"


def _broken(**more: object) -> Table:
    performance = {"fast": Performance(breaker="open", open_until=200.0, **more)}  # type: ignore[arg-type]
    return table(provider("simulator", FAST, CLEVER, performance=performance))


def test_an_open_breaker_moves_to_the_end_and_the_last_one_is_asked() -> None:
    order = ("simulator/fast", "simulator/clever")
    assert names(decide(*order, among=_broken())) == ["simulator/clever", "simulator/fast"]
    assert names(decide("simulator/fast", among=_broken())) == ["simulator/fast"]


def test_an_open_breaker_whose_time_is_over_is_probed_though_the_router_is_away() -> None:
    order = ("simulator/fast", "simulator/clever")
    assert names(decide(*order, among=_broken(), now=201.0))[0] == "simulator/fast"


@pytest.mark.parametrize(
    ("gateway", "prober", "in_flight", "own", "first"),
    [
        ("g1", "g1", 0, False, True),
        ("g1", "g1", 0, True, False),
        ("g2", "g1", 0, False, False),
        ("g2", "", 0, False, True),
        ("g2", "", 1, False, False),
    ],
)
def test_one_request_at_a_time_probes(gateway: str, prober: str, in_flight: int, own: bool, first: bool) -> None:
    performance = {"fast": Performance(in_flight, 9, 0.9, breaker="half_open", prober=prober)}
    among = table(provider("simulator", FAST, CLEVER, performance=performance))
    busy = frozenset({("simulator", "fast")}) if own else frozenset()
    decision = decide("simulator/fast", "simulator/clever", among=among, gateway=gateway, in_flight=busy)
    assert (names(decision)[0] == "simulator/fast") is first


def test_the_explanation_reads_as_it_should() -> None:
    explain = decide("auto").explain
    assert explain.startswith("auto: simulator/")
    assert "(score 0." in explain
    assert ", then " in explain


def test_failures_and_queues_lower_the_score() -> None:
    failing = table(provider("simulator", FAST, performance={"fast": Performance(error_rate=0.5)}))
    crowded = table(provider("simulator", FAST, replicas=(ReplicaEntry("r", "http://h:1", 10, 20, 10),)))
    free = decide("auto", among=table(provider("simulator", FAST))).candidates[0].score
    assert decide("auto", among=failing).candidates[0].score == pytest.approx(free / 2)
    assert decide("auto", among=crowded).candidates[0].score < free


def test_equal_scores_are_shared_out_by_chance() -> None:
    twins = table(provider("a", FAST), provider("b", FAST))
    assert {names(decide("fast", among=twins, seed=seed))[0] for seed in range(20)} == {"a/fast", "b/fast"}


REPLICAS = tuple(ReplicaEntry(f"r{n}", f"http://h:{n}", in_flight=n, limit=10) for n in range(3))


def test_the_less_loaded_of_two_replicas_is_picked() -> None:
    source = random.Random(5)
    counts = dict.fromkeys(("r0", "r1", "r2"), 0)
    for _ in range(600):
        found = pick(provider("p", replicas=REPLICAS), source.random)
        assert found is not None
        counts[found.replica] += 1
    assert counts["r2"] == 0
    assert counts["r0"] > counts["r1"] > 100


def test_what_this_gateway_sent_itself_counts() -> None:
    found = pick(provider("p", replicas=REPLICAS[:2]), random.Random(1).random, frozenset(), {"r0": 5})
    assert found == REPLICAS[1]


def test_replicas_to_avoid_are_avoided() -> None:
    entry = provider("p", replicas=REPLICAS)
    assert pick(entry, random.Random(1).random, frozenset({"r0", "r1"})) == REPLICAS[2]
    assert pick(entry, random.Random(1).random, frozenset({"r0", "r1", "r2"})) is None
    assert pick(provider("p", replicas=()), random.Random(1).random) is None
