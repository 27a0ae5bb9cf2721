"""A LiteLLM proxy's configuration becomes one of ours that does the same."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from deployments.cli.commands import app
from deployments.config import GatewaySettings, ProviderSettings
from deployments.litellm_import import imported
from pipelines.errors import ConfigurationError
from tests.deployments.house import client_of, house
from tests.deployments.ollama_server import ollama_server

FILE = """
model_list:
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, rpm: 480, weight: 3}
    model_info:
      {max_input_tokens: 128000, input_cost_per_token: 0.0000025, output_cost_per_token: 0.00001, supports_vision: true}
  - model_name: gpt-4o
    litellm_params: {model: openrouter/openai/gpt-4o, api_key: os.environ/OPENROUTER_API_KEY, weight: 1}
  - model_name: claude
    litellm_params: {model: claude-sonnet-4-5, api_key: sk-ant-in-the-file, stream_timeout: 20}
  - model_name: fast
    litellm_params: {model: groq/llama-3.3-70b-versatile, temperature: 0.2}
  - model_name: own
    litellm_params: {model: hosted_vllm/qwen, api_base: "http://gpu:8000/v1/"}
  - model_name: cloud
    litellm_params: {model: bedrock/anthropic.claude-v2}
  - model_name: "anthropic/*"
    litellm_params: {model: "anthropic/*", api_key: os.environ/TEAM_KEY}
router_settings:
  routing_strategy: simple-shuffle
  num_retries: 2
  timeout: 120
  fallbacks: [{gpt-4o: [claude]}]
  model_group_alias: {gpt-4: gpt-4o}
  redis_host: localhost
litellm_settings:
  default_fallbacks: [own]
  callbacks: [langfuse]
general_settings:
  master_key: sk-1234
"""


def parts(text: str = FILE) -> tuple[dict[str, Any], dict[str, dict[str, Any]], list[str]]:
    """The gateway's arguments, the providers', and the notes."""
    found = imported(yaml.safe_load(text))
    by_name = {one["name"]: one["args"] for one in found.configuration["applications"]}
    return by_name.pop("gateway"), by_name, found.notes


def test_our_own_settings_take_it() -> None:
    gateway, providers, _ = parts()
    GatewaySettings.model_validate(gateway)
    for arguments in providers.values():
        ProviderSettings.model_validate(arguments)
    ports = [one["listen"]["port"] for one in (gateway, *providers.values())]
    assert len(set(ports)) == len(ports)


def test_providers_are_who_is_asked() -> None:
    _, providers, _ = parts()
    assert set(providers) == {"openai", "openrouter", "anthropic", "anthropic-2", "groq", "hosted-vllm"}
    assert providers["groq"]["kind"] == "local"
    assert providers["groq"]["base_url"] == "https://api.groq.com/openai/v1"
    assert providers["groq"]["key_variable"] == "GROQ_API_KEY"
    assert providers["hosted-vllm"]["base_url"] == "http://gpu:8000/v1"
    assert providers["openai"]["keys"] == [{"variable": "OPENAI_API_KEY", "requests_per_minute": 480}]
    assert providers["openai"]["retry"] == {"attempts": 3}
    assert providers["openai"]["timeouts"] == {"total": 120.0, "first_event": 120.0, "idle": 120.0}


def test_models_keep_what_is_known_of_them() -> None:
    _, providers, _ = parts()
    (model,) = providers["openai"]["models"]
    assert model == {
        "name": "gpt-4o",
        "context": 128000,
        "vision": True,
        "audio": True,
        "input_price": 2.5,
        "output_price": 10.0,
    }
    assert providers["anthropic"]["models"][0]["timeouts"] == {"first_event": 20.0, "idle": 20.0}


def test_groups_become_aliases_with_their_weights_and_fallbacks() -> None:
    gateway, _, _ = parts()
    aliases = gateway["aliases"]
    assert aliases["gpt-4o (group)"] == {
        "models": ["openai/gpt-4o", "openrouter/openai/gpt-4o"],
        "strategy": "weighted",
        "weights": {"openai/gpt-4o": 3.0, "openrouter/openai/gpt-4o": 1.0},
    }
    assert aliases["gpt-4o"] == ["gpt-4o (group)", "claude", "own"]
    assert aliases["claude"] == ["anthropic/claude-sonnet-4-5", "own"]
    assert aliases["gpt-4"] == ["gpt-4o"]
    assert aliases["own"] == ["hosted-vllm/qwen"]


def test_what_is_not_carried_over_is_named() -> None:
    _, _, notes = parts()
    said = "\n".join(notes)
    for word in ("bedrock", "redis_host", "callbacks", "temperature", "master key", "ANTHROPIC_API_KEY", "wildcards"):
        assert word in said


def test_no_key_comes_along() -> None:
    gateway, providers, notes = parts()
    assert "sk-" not in yaml.safe_dump([gateway, providers, notes])


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "3",
        "model_list: {}",
        "model_list: [{model_name: x}]",
        "model_list: [{model_name: x, litellm_params: 3}]",
    ],
)
def test_another_file_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        imported(yaml.safe_load(text))


def test_the_command_writes_yaml_and_notes(tmp_path: Path) -> None:
    file = tmp_path / "litellm.yaml"
    file.write_text(FILE)
    done = CliRunner().invoke(app, ["import-litellm", str(file)])
    assert done.exit_code == 0
    assert yaml.safe_load(done.stdout)["applications"][0]["name"] == "gateway"
    assert "redis_host" in done.stderr


def entries(*given: str, more: str = "") -> tuple[dict[str, Any], dict[str, dict[str, Any]], str]:
    """The gateway's arguments, the providers' and the notes as one text, of entries `name, params` in YAML."""
    gateway, providers, notes = parts("model_list:\n" + "".join(f"  - {one}\n" for one in given) + more)
    return gateway, providers, "\n".join(notes)


def test_accounts_and_servers_stay_apart() -> None:
    gateway, providers, notes = entries(
        "{model_name: research, litellm_params: {model: openai/gpt-4o, api_key: os.environ/TEAM_A, rpm: 100}}",
        "{model_name: more, litellm_params: {model: openai/gpt-5, api_key: os.environ/TEAM_A, rpm: 100}}",
        "{model_name: chat, litellm_params: {model: openai/gpt-4o-mini}}",
        "{model_name: two, litellm_params: {model: anthropic/claude, api_key: sk-ant-a}}",
        "{model_name: two, litellm_params: {model: anthropic/claude, api_key: sk-ant-b}}",
        "{model_name: own, litellm_params: {model: hosted_vllm/llama, api_base: os.environ/VLLM_A}}",
        "{model_name: own, litellm_params: {model: hosted_vllm/llama, api_base: os.environ/VLLM_B}}",
    )
    assert [one["name"] for one in providers["openai"]["models"]] == ["gpt-4o", "gpt-5"]
    assert gateway["aliases"]["chat"] == ["openai-2/gpt-4o-mini"]
    assert [providers[name]["key_variable"] for name in ("anthropic", "anthropic-2")] == [
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_API_KEY_2",
    ]
    assert gateway["aliases"]["two"]["models"] == ["anthropic/claude", "anthropic-2/claude"]
    bases = [providers[name]["base_url"] for name in ("hosted-vllm", "hosted-vllm-2")]
    assert bases == ["http://set-vllm-a.invalid/v1", "http://set-vllm-b.invalid/v1"]
    assert "sk-" not in notes


LIMITED = "{{model_name: {}, litellm_params: {{model: {}, api_base: 'http://h/v1', api_key: os.environ/K, {}}}}}"


@pytest.mark.parametrize(
    ("given", "limits", "said"),
    [
        (["gpt-4 rpm: 6", "mini rpm: 5000, tpm: 9"], {"requests_per_minute": 5006}, "tpm not carried over, for gpt-4"),
        (["gpt-4 rpm: 6, tpm: 5", "mini tpm: 9"], {"tokens_per_minute": 14}, "rpm not carried over, for mini"),
        (["gpt-4 rpm: 6", "gpt-4 rpm: 6", "mini rpm: 1"], {"requests_per_minute": 7}, ""),
        (["gpt-4 rpm: 6", "gpt-4 weight: 1"], {"requests_per_minute": 6}, ""),
        (["gpt-4 rpm: 6", "mini weight: 1"], {}, "rpm not carried over, for mini"),
        (["gpt-4 rpm: 6", "* weight: 1"], {}, "rpm not carried over, for *"),
        (["gpt-4 rpm: 0"], {}, ""),
    ],
)
def test_a_key_is_limited_to_what_all_of_its_models_may(given: list[str], limits: dict[str, int], said: str) -> None:
    split = [one.partition(" ") for one in given]
    _, providers, notes = entries(
        *(LIMITED.format(f"'{model}'", f"'hosted_vllm/{model}'", more) for model, _, more in split)
    )
    (settings,) = providers.values()
    assert settings.get("keys", []) == ([{"variable": "K", **limits}] if limits else [])
    assert settings.get("key_variable") == (None if limits else "K")
    assert said in notes


def test_limits_without_a_key_are_named() -> None:
    _, providers, notes = entries("{model_name: a, litellm_params: {model: ollama/llama3, rpm: 60, tpm: 100}}")
    assert "keys" not in providers["ollama"]
    assert "ollama: rpm not carried over, for it has no key" in notes
    assert "ollama: tpm not carried over, for it has no key" in notes


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://eu.api.openai.com/v1/", "openai"),
        ("https://ours.openai.azure.com/openai/v1", "openai"),
        ("https://api.openai.com.example/v1", "local"),
        ("http://127.0.0.1:9/v1", "local"),
        ("os.environ/BASE", "local"),
    ],
)
def test_openais_own_address_is_openai(base: str, kind: str) -> None:
    given = f"{{model_name: a, litellm_params: {{model: openai/gpt-5, api_base: '{base}', api_key: os.environ/K}}}}"
    _, providers, _ = entries(given)
    assert [one["kind"] for one in providers.values()] == [kind]


def test_a_key_is_one_whether_openais_address_is_written_or_not() -> None:
    parameters = "{{model: openai/{}, api_key: os.environ/K{}}}"
    written = parameters.format("gpt-5", ", api_base: 'https://api.openai.com/v1'")
    _, providers, _ = entries(
        f"{{model_name: a, litellm_params: {written}}}",
        f"{{model_name: b, litellm_params: {parameters.format('gpt-4o', '')}}}",
    )
    assert [card["name"] for card in providers["openai"]["models"]] == ["gpt-5", "gpt-4o"]
    assert list(providers) == ["openai"]


OPENAI = "{{model_name: {}, litellm_params: {{model: openai/gpt-4o{}}}}}"


def test_a_key_in_the_file_gets_a_variable_that_is_nobody_elses() -> None:
    gateway, providers, notes = entries(
        OPENAI.format("a", ", api_key: sk-1"),
        OPENAI.format("b", ", api_key: os.environ/OPENAI_API_KEY"),
        OPENAI.format("c", ", api_key: sk-2"),
        OPENAI.format("d", ", api_key: os.environ/OPENAI_API_KEY_3"),
        OPENAI.format("e", ", api_key: sk-1"),
        more="environment_variables: {OPENAI_API_KEY_4: x}\n",
    )
    asked = {name: models[0].partition("/")[0] for name, models in gateway["aliases"].items()}
    assert {name: providers[provider]["key_variable"] for name, provider in asked.items()} == {
        "a": "OPENAI_API_KEY_2",
        "b": "OPENAI_API_KEY",
        "c": "OPENAI_API_KEY_5",
        "d": "OPENAI_API_KEY_3",
        "e": "OPENAI_API_KEY_2",
    }
    assert "a: its key stands in the file; put it into the variable OPENAI_API_KEY_2" in notes


@pytest.mark.parametrize("prefix", ["openai", "anthropic", "openrouter", "groq"])
def test_no_key_is_the_one_in_the_usual_variable(prefix: str) -> None:
    usual = f"{prefix.upper()}_API_KEY"
    _, providers, _ = entries(
        f"{{model_name: a, litellm_params: {{model: {prefix}/x, rpm: 5}}}}",
        f"{{model_name: b, litellm_params: {{model: {prefix}/x, api_key: os.environ/{usual}}}}}",
        f"{{model_name: c, litellm_params: {{model: {prefix}/x, api_key: sk-1}}}}",
    )
    assert set(providers) == {prefix, f"{prefix}-2"}
    assert providers[prefix]["keys"] == [{"variable": usual, "requests_per_minute": 5}]
    assert providers[f"{prefix}-2"]["key_variable"] == f"{usual}_2"


def test_a_weight_of_nothing_and_what_differs_between_entries() -> None:
    gateway, providers, notes = entries(
        "{model_name: a, litellm_params: {model: openai/x, weight: 0}}",
        "{model_name: a, litellm_params: {model: groq/y, weight: 3}}",
        "{model_name: b, litellm_params: {model: openai/x, timeout: 30}, model_info: {input_cost_per_token: 0.000001}}",
        "{model_name: c, litellm_params: {model: openai/x, timeout: 300, max_retries: 0}}",
    )
    assert gateway["aliases"]["a"]["weights"] == {"openai/x": 0.0, "groq/y": 3.0}
    (model,) = providers["openai"]["models"]
    assert (model["input_price"], model["timeouts"]) == (1.0, {"total": 30.0, "first_event": 30.0, "idle": 30.0})
    assert "timeouts differs" in notes
    assert "max_retries" in notes


def test_what_leads_to_a_group_that_is_left_out_is_named() -> None:
    gateway, _, notes = entries(
        "{model_name: gpt, litellm_params: {model: openai/gpt-4o}}",
        "{model_name: az, litellm_params: {model: azure/gpt-4o}}",
        more="router_settings: {fallbacks: [{gpt: [az]}, {az: [gpt]}, {none: [gpt]}], "
        "model_group_alias: {old: az, new: bz}}",
    )
    assert gateway["aliases"] == {"gpt": ["openai/gpt-4o"], "az": ["gpt"], "old": ["az"], "new": ["bz"]}
    assert "fallbacks of gpt: az is left out" in notes
    assert "fallbacks of none" in notes


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("model: gpt-4o", "openai/gpt-4o"),
        ("model: claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("model: gemini-2.5-flash", ""),
        ("model: gemini-2.5-flash, vertex_project: p, vertex_location: europe-west4", ""),
        ("model: claude-sonnet-4-5, vertex_project: p", ""),
        ("model: claude-sonnet-4-5, aws_region_name: us-east-1", ""),
        ("model: gemini/gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("model: command-r-plus", ""),
        ("model: gpt-4o, custom_llm_provider: azure, api_base: 'https://x.openai.azure.com'", ""),
        ("model: openai/gpt-oss-120b, custom_llm_provider: groq", "groq/openai/gpt-oss-120b"),
        ("model: groq/llama, custom_llm_provider: groq", "groq/llama"),
        ("model: openai/responses/o3-pro", "openai/o3-pro"),
    ],
)
def test_a_model_is_asked_of_whom_litellm_asks(asked: str, target: str) -> None:
    gateway, _, notes = entries(f"{{model_name: a, litellm_params: {{{asked}}}}}")
    assert gateway["aliases"] == ({"a": [target]} if target else {})
    assert ("a: nothing here asks" in notes) == (not target)
    assert ("a: o3-pro is asked at /v1/responses only" in notes) == ("responses/" in asked)


def test_a_wildcard_is_told_by_the_providers_own_name() -> None:
    _, providers, notes = entries(
        "{model_name: 'together_ai/*', litellm_params: {model: 'together_ai/*'}}",
        "{model_name: 'vllm/*', litellm_params: {model: 'hosted_vllm/*', api_base: 'http://gpu:8000/v1'}}",
        "{model_name: gpt, litellm_params: {model: openai/gpt-4o, api_key: os.environ/A}}",
        "{model_name: 'team-b/*', litellm_params: {model: 'openai/*', api_key: os.environ/B}}",
        "{model_name: 'azure/*', litellm_params: {model: 'azure/*'}}",
    )
    told = [line.rpartition(" ")[2] for line in notes.splitlines() if "wildcards" in line]
    assert told == ["`together-ai/<model>`", "`hosted-vllm/<model>`", "`openai-2/<model>`"]
    assert {one.strip("`").partition("/")[0] for one in told} <= providers.keys()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("fallbacks: [{a: [gpt-4o-mni]}]", "fallbacks of a: gpt-4o-mni is no group here"),
        ("default_fallbacks: [nobody/gpt-4o]", "default_fallbacks of *: nobody/gpt-4o is no group here"),
        ("num_retries: os.environ/N", "num_retries: not carried over, for it is no number"),
    ],
)
def test_what_leads_nowhere_is_named(more: str, said: str) -> None:
    gateway, providers, notes = entries(
        "{model_name: a, litellm_params: {model: openai/x}}", more=f"router_settings: {{{more}}}"
    )
    assert gateway["aliases"] == {"a": ["openai/x"]}
    assert "retry" not in providers["openai"]
    assert said in notes


def test_fallbacks_may_be_further_names_and_models_of_a_provider() -> None:
    gateway, _, notes = entries(
        "{model_name: a, litellm_params: {model: openai/x}}",
        "{model_name: b, litellm_params: {model: openai/y}}",
        more="router_settings: {fallbacks: [{a: [old, openai/z]}], model_group_alias: {old: b}, num_retries: '4'}",
    )
    assert gateway["aliases"]["a"] == ["openai/x", "old", "openai/z"]
    assert "fallbacks" not in notes


def test_groups_whose_context_nobody_knows_are_named_where_a_larger_one_is_to_follow() -> None:
    _, _, notes = entries(
        "{model_name: own, litellm_params: {model: hosted_vllm/qwen, api_base: 'http://h/v1'}}",
        "{model_name: known, litellm_params: {model: openai/gpt-4o}}",
        "{model_name: other, litellm_params: {model: hosted_vllm/llama, api_base: 'http://h/v1'}}",
        more="litellm_settings: {context_window_fallbacks: [{own: [known]}, {known: [other]}]}",
    )
    assert [line for line in notes.splitlines() if "context_window_fallbacks" in line] == [
        "context_window_fallbacks of own: write `context` to hosted-vllm/qwen, for nobody knows it"
    ]


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ("fallbacks: [a]", "`fallbacks` must be a list of objects"),
        ("fallbacks: {a: [b]}", "`fallbacks` must be a list of objects"),
        ("fallbacks: [{a: b}]", "`fallbacks: a` must be a list of names"),
        ("fallbacks: [{a: [{model: b}]}]", "`fallbacks: a` must be a list of names"),
        ("context_window_fallbacks: [[a]]", "`context_window_fallbacks` must be a list of objects"),
        ("default_fallbacks: b", "`default_fallbacks` must be a list of names"),
        ("model_group_alias: {x: [a, b]}", "`model_group_alias: x` must be the name of a group"),
        ("model_group_alias: {x: {model: [a]}}", "`model_group_alias: x` must be the name of a group"),
        ("model_group_alias: [a]", "`model_group_alias` must be an object"),
        ("routing_strategy: [a]", "`routing_strategy` must be a name"),
    ],
)
def test_another_form_is_named(more: str, place: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        entries("{model_name: a, litellm_params: {model: openai/x}}", more=f"router_settings: {{{more}}}")
    assert caught.value.message == place


@pytest.mark.parametrize("entry", ["", "rpm: null, ", "rpm: 5, "])
def test_a_limit_that_an_entry_leaves_open_is_that_of_its_parameters(entry: str) -> None:
    parameters = "{model: openai/x, api_key: os.environ/K, rpm: " + ("7}" if "5" in entry else "5}")
    _, providers, _ = entries(f"{{model_name: a, {entry}litellm_params: {parameters}}}")
    assert providers["openai"]["keys"] == [{"variable": "K", "requests_per_minute": 5}]


@pytest.mark.parametrize("target", ["{}", "null", "{hidden: true}", "{model: null}", '""'])
def test_an_alias_of_nothing_is_named_and_left_out(target: str) -> None:
    more = f"router_settings: {{model_group_alias: {{old: {target}, new: {{model: a, hidden: true}}}}}}"
    gateway, _, notes = entries("{model_name: a, litellm_params: {model: openai/x}}", more=more)
    assert gateway["aliases"] == {"a": ["openai/x"], "new": ["a"]}
    assert "model_group_alias: old stands for no group" in notes


@pytest.mark.parametrize(
    "entry",
    [
        "{model_name: 4, litellm_params: {model: openai/x}}",
        "{model_name: a, litellm_params: {model: openai/x, rpm: os.environ/R}}",
        "{model_name: a, litellm_params: {model: openai/x, timeout: os.environ/T, stream_timeout: -1}}",
        "{model_name: a, litellm_params: {model: openai/x}, model_info: {max_input_tokens: 128k}}",
    ],
)
def test_odd_values_are_named_and_end_nothing(entry: str) -> None:
    gateway, providers, notes = entries(entry)
    assert list(gateway["aliases"].values()) == [["openai/x"]]
    assert "openai" in providers
    assert ("no number" in notes) == ("os.environ" in entry or "128k" in entry)


MODEL = "{{model_name: a, litellm_params: {{model: {}}}, model_info: {{{}}}}}"


@pytest.mark.parametrize(
    ("model", "info", "able"),
    [
        ("openai/gpt-4o", "", True),
        ("openai/gpt-3.5-turbo", "supports_vision: false, supports_audio_input: false", False),
        ("groq/llava", "", True),
        ("ollama/llava", "", None),
        ("openrouter/openai/gpt-4o", "", None),
        ("ollama/llava", "supports_vision: true, supports_audio_input: true", True),
    ],
)
def test_pictures_are_for_the_provider_to_judge_where_the_file_is_silent(
    model: str, info: str, able: bool | None
) -> None:
    _, providers, _ = entries(MODEL.format(model, info))
    ((card,),) = (settings["models"] for settings in providers.values())
    assert (card.get("vision"), card.get("audio")) == (able, able)


def test_a_later_entry_may_say_what_the_first_does_not() -> None:
    _, providers, notes = entries(MODEL.format("openai/x", ""), MODEL.format("openai/x", "supports_vision: false"))
    assert providers["openai"]["models"] == [{"name": "x", "vision": False, "audio": True}]
    assert "differs" not in notes


def test_the_context_is_the_files_or_that_of_the_price_list() -> None:
    _, providers, notes = entries(
        MODEL.format("anthropic/claude-sonnet-4-5", ""),
        MODEL.format("deepseek/deepseek-chat", ""),
        MODEL.format("openai/gpt-4o", "max_tokens: 16384"),
        MODEL.format("openai/gpt-4", "max_input_tokens: 5000, max_tokens: 300"),
        MODEL.format("openai/nobody-knows-it", "max_tokens: 3"),
    )
    contexts = {card["name"]: card.get("context", 0) for one in providers.values() for card in one["models"]}
    assert contexts["claude-sonnet-4-5"] >= 200_000
    assert contexts["deepseek-chat"] >= 64_000
    assert contexts["gpt-4o"] == 128_000
    assert (contexts["gpt-4"], contexts["nobody-knows-it"]) == (5000, 0)
    assert "max_tokens not carried over" in notes


@pytest.mark.parametrize(
    ("entry", "router", "of_model"),
    [
        ("timeout: 600", "", {"total": 600, "first_event": 600, "idle": 600}),
        ("timeout: 600, stream_timeout: 20", "", {"total": 600, "first_event": 20, "idle": 20}),
        ("timeout: 600", "stream_timeout: 9", {"total": 600}),
        ("stream_timeout: 20", "stream_timeout: 9", {"first_event": 20, "idle": 20}),
    ],
)
def test_a_timeout_is_that_of_silence_too_where_nothing_else_is(
    entry: str, router: str, of_model: dict[str, float]
) -> None:
    one = f"{{model_name: a, litellm_params: {{model: ollama/llama3, {entry}}}}}"
    _, providers, _ = entries(one, more=f"router_settings: {{{router}}}\n")
    assert providers["ollama"]["models"][0]["timeouts"] == of_model
    assert providers["ollama"].get("timeouts") == ({"first_event": 9, "idle": 9} if router else None)


@pytest.mark.parametrize(
    ("model", "mode", "known"),
    [
        ("openai/gpt-4o", "", "listed"),
        ("openai/gpt-4o-audio-preview", "chat", "listed"),
        ("openai/o3-pro", "responses", "listed"),
        ("openai/text-embedding-3-small", "", "unlisted"),
        ("hosted_vllm/BAAI/bge-m3", "", "unlisted"),
        ("openai/house-model", "embedding", "unlisted"),
        ("openai/gpt-3.5-turbo-instruct", "", "unlisted"),
        ("openai/babbage-002", "completion", "unlisted"),
        ("groq/llama-3-8b-instruct", "", "listed"),
        ("openai/my-embedded-chat", "chat", "listed"),
        ("openai/dall-e-3", "", "left out"),
        ("openai/gpt-4o-mini-tts", "", "left out"),
        ("openai/whisper-1", "", "left out"),
        ("openai/gpt-4o-transcribe", "", "left out"),
        ("openai/house-model", "image_generation", "left out"),
        ("openai/gpt-4o-realtime-preview", "", "left out"),
    ],
)
def test_only_models_for_conversations_are_listed(model: str, mode: str, known: str) -> None:
    info = f"mode: {mode}" if mode else ""
    one = f"{{model_name: a, litellm_params: {{model: {model}, api_base: 'http://h/v1'}}, model_info: {{{info}}}}}"
    gateway, providers, notes = entries(one)
    assert [len(one["models"]) for one in providers.values()] == {"listed": [1], "unlisted": [0]}.get(known, [])
    assert list(gateway["aliases"]) == ([] if known == "left out" else ["a"])
    assert ("by its name" in notes) == (known != "listed" and not mode)
    assert ("it is left out" in notes) == (known == "left out")


async def test_an_imported_alias_of_embeddings_answers_and_auto_passes_it_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ollama_server() as server:
        gateway, providers, notes = entries(
            "{model_name: a, litellm_params: "
            f"{{model: ollama/nomic-embed-text, api_base: '{server.url}', timeout: 9}}}}"
        )
        del providers["ollama"]["listen"]
        async with house(tmp_path, monkeypatch, aliases=gateway["aliases"]) as running:
            await running.provider(**providers["ollama"], drain=1.0)
            await running.until(lambda: running.gateway.router.table.provider("ollama") is not None)
            async with client_of(running.gateway) as client:
                answer = await client.post("/v1/embeddings", json={"model": "a", "input": "Hi"})
                assert answer.json()["data"][0]["embedding"] == [0.5]
                asked = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
                route = (await client.post("/v1/route", json=asked)).json()
    assert "ollama/nomic-embed-text" not in [one["model"] for one in route["candidates"]]
    assert "a: not carried over, for `auto` is to pass it over: timeouts" in notes


@pytest.mark.parametrize("more", ["router_settings: {fallbacks: {a: [b]}}", "router_settings: {routing_strategy: [1]}"])
def test_what_cannot_be_read_is_one_error(more: str) -> None:
    with pytest.raises(ConfigurationError):
        entries("{model_name: a, litellm_params: {model: openai/x}}", more=more)
    with pytest.raises(ConfigurationError):
        imported({"model_list": [None]})
