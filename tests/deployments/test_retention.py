"""Rows that are too old go by themselves, a batch at a time; newer prices come by themselves."""

import asyncio
import json
from pathlib import Path
from typing import Any

import genai_prices
import msgspec
import pytest

from actors.money import ledger_erasing
from actors.money.price_list import FILE, PriceList
from deployments.http.transport import HttpTransport
from deployments.money.price_refresh import AGAIN, PriceRefresh
from deployments.money.retention import Retention
from deployments.settings.money_settings import PriceSettings, RetentionSettings
from pipelines.ledger_questions import Erased
from tests.deployments.house import House, house
from tests.deployments.test_usage_pages import many, put

DAY = 86_400.0
NOW = 1_795_003_200.0


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


async def test_what_is_too_old_goes_batch_by_batch(running: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_erasing, "AT_ONCE", 4)
    monkeypatch.setattr(ledger_erasing, "BATCHES", 2)
    await put(running, *many(30, begin=NOW - 10 * DAY), *many(5, "young", begin=NOW - DAY))
    settings = RetentionSettings(requests_days=5, attempts_days=20)
    retention = Retention(settings, running.gateway.ledger, lambda: NOW, no_sleep)
    assert retention.wanted
    assert await retention.sweep() == Erased(30, 0)
    assert await retention.sweep() == Erased(0, 0)
    later = Retention(settings, running.gateway.ledger, lambda: NOW + 12 * DAY, no_sleep)
    assert await later.sweep() == Erased(5, 30)
    assert not Retention(RetentionSettings(), running.gateway.ledger, lambda: NOW).wanted


async def test_a_gateway_sweeps_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[float] = []

    async def noted(self: Retention) -> Erased:
        swept.append(self._before(1.0))
        return Erased()

    monkeypatch.setattr(Retention, "sweep", noted)
    async with house(tmp_path, monkeypatch, retention={"requests_days": 1}) as built:
        await built.until(lambda: bool(swept), 30.0)


def price_list(price: float) -> bytes:
    """A list of one provider with one model."""
    return json.dumps(
        [
            {
                "id": "openai",
                "name": "OpenAI",
                "api_pattern": "https://api\\.openai\\.com",
                "models": [
                    {"id": "gpt-5", "match": {"equals": "gpt-5"}, "prices": {"input_mtok": price, "output_mtok": 2}}
                ],
            }
        ]
    ).encode()


def price(prices: PriceList) -> int | None:
    prices.refresh()
    rates = prices.rates("openai", "", "gpt-5", "", NOW)
    return rates.input.price if rates is not None and rates.input is not None else None


async def test_newer_prices_come_from_a_url_or_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    served = [(200, price_list(7)), (200, b"<html>"), (500, b"")]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status, body = served.pop(0)
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    transport = HttpTransport()
    source = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/data.json"
    prices = PriceList(tmp_path)
    before = price(prices)
    settings = PriceSettings(source=source, hours=1)
    refresh = PriceRefresh(settings, transport, tmp_path)
    later = (tmp_path.stat().st_mtime + 10 * DAY) // 1
    assert not await PriceRefresh(PriceSettings(), transport, tmp_path).fetch(later)
    assert await refresh.fetch(later)
    assert price(prices) == 7_000_000 != before
    # A process that comes a little later finds it there.
    written = (tmp_path / FILE).stat().st_mtime
    assert not await PriceRefresh(settings, transport, tmp_path).fetch(written + 60)
    assert len(served) == 2
    for step in (1, 2):
        assert not await refresh.fetch(later + step * 2 * AGAIN + 3600)
    assert served == []
    assert price(prices) == 7_000_000
    assert "no price list" in caplog.text or "Expecting value" in caplog.text
    assert "500" in caplog.text
    file = tmp_path / "newer.json"
    file.write_bytes(price_list(9))
    assert await PriceRefresh(PriceSettings(source=str(file)), transport, tmp_path).fetch(later)
    assert price(prices) == 9_000_000
    assert [path.name for path in tmp_path.glob(".*")] == []
    server.close()
    await transport.close()


def test_batches_have_their_own_price() -> None:
    """genai-prices knows what OpenAI and Anthropic take for a batch; our usage says `batch` where the provider does."""
    prices = PriceList()
    usual: Any = prices.rates("anthropic", "", "claude-sonnet-4-5", "", NOW)
    batch: Any = prices.rates("anthropic", "", "claude-sonnet-4-5", "batch", NOW)
    assert usual.input.price > batch.input.price > 0, genai_prices.__version__
    assert msgspec.to_builtins(usual)["source"] == msgspec.to_builtins(batch)["source"]
