"""What changes without a restart: Serve's `user_config`, as the replicas take it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deployments.config import GatewaySettings, ProviderSettings
from deployments.provider_replica import ProviderReplica
from deployments.settings.live_settings import altered
from pipelines.errors import ConfigurationError
from tests.deployments.house import House, client_of, house

CHAT = "/v1/chat/completions"


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with house(tmp_path, monkeypatch, aliases={"old": ["simulator/fast"]}) as built:
        yield built


async def answered(running: House, model: str) -> tuple[int, float]:
    """The status, and the cost where it is told."""
    async with client_of(running.gateway) as client:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
        answer = await client.post(CHAT, json=body)
    return answer.status_code, float(answer.headers.get("x-penstock-cost", "nan"))


async def test_other_aliases_hold_from_the_next_call_on(running: House) -> None:
    assert (await answered(running, "old"))[0] == 200
    running.gateway.reconfigure({"aliases": {"new": {"models": ["simulator/fast"], "strategy": "cheapest"}}})
    assert (await answered(running, "new"))[0] == 200
    assert (await answered(running, "old"))[0] == 404
    running.gateway.reconfigure({})
    assert (await answered(running, "old"))[0] == 200


async def test_a_bad_change_of_a_running_replica_leaves_everything_as_it_was(
    running: House, caplog: pytest.LogCaptureFixture
) -> None:
    running.gateway.reconfigure({"aliases": {"new": ["simulator/fast"]}})
    running.gateway.reconfigure({"aliases": {"broken": 7}})
    running.gateway.reconfigure({"listen": {"port": 1}})
    assert (await answered(running, "new"))[0] == 200
    assert [record.message[:40] for record in caplog.records if record.name == "penstock"] == [
        "the configuration stays as it was: user_"
    ] * 2


async def test_a_bad_one_at_the_start_is_an_error(running: House) -> None:
    with pytest.raises(ConfigurationError, match="user_config cannot change listen"):
        running.gateway.reconfigure({"listen": {"port": 1}})


async def test_prices_of_a_provider_change_what_the_next_answer_costs(running: House) -> None:
    provider = running.replicas[0]
    assert isinstance(provider, ProviderReplica)
    provider.reconfigure({"models": [{"name": "fast", "input_price": 0.0, "output_price": 2.0}]})
    _, cheap = await answered(running, "simulator/fast")
    provider.reconfigure({"models": [{"name": "fast", "input_price": 0.0, "output_price": 20.0}]})
    _, dear = await answered(running, "simulator/fast")
    assert cheap > 0
    assert dear == pytest.approx(10 * cheap)
    assert [card.output_price for card in provider.announcement().models] == [20.0]


async def test_an_empty_one_is_what_the_arguments_say(running: House) -> None:
    provider = running.replicas[0]
    assert isinstance(provider, ProviderReplica)
    before = provider.announcement().models
    provider.reconfigure({"models": [{"name": "fast"}], "timeouts": {"total": 7}})
    assert provider.provider.timeouts.total == 7
    provider.reconfigure({})
    assert provider.announcement().models == before
    assert provider.provider.timeouts.total == 600


def test_only_what_is_live_may_be_changed_and_only_by_what_fits() -> None:
    settings = GatewaySettings(policy="cheap", replicas=3)
    assert altered(settings, {"explore": 0.5}) == GatewaySettings(policy="cheap", replicas=3, explore=0.5)
    with pytest.raises(ConfigurationError, match="user_config: explore: Input should be less"):
        altered(settings, {"explore": 2})
    with pytest.raises(ConfigurationError, match="may have models, timeouts"):
        altered(ProviderSettings(kind="simulator"), {"key_file": "/etc/passwd"})
