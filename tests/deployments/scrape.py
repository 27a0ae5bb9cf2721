"""`GET /metrics`, read as Prometheus reads it."""

import asyncio
from collections.abc import Callable

import httpx
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Samples:
    """Every sample by its name and its labels, sorted."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(client: httpx.AsyncClient) -> Samples:
    """The page as it is now."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return parsed(answer.text)


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum over all series of a name that have these labels."""
    wanted = set(labels.items())
    return sum(value for (found, own), value in samples.items() if found == name and wanted <= set(own))


def by(samples: Samples, name: str, label: str, **labels: str) -> dict[str, float]:
    """The sums by one label, without those that are 0."""
    words = {dict(own)[label] for (found, own) in samples if found == name}
    sums = {word: total(samples, name, **{label: word, **labels}) for word in words}
    return {word: value for word, value in sums.items() if value}


async def until(client: httpx.AsyncClient, condition: Callable[[Samples], bool], seconds: float = 60.0) -> Samples:
    """The first page of which `condition` holds."""
    async with asyncio.timeout(seconds):
        while not condition(samples := await scraped(client)):
            await asyncio.sleep(0.1)
        return samples
