"""Another Ray job, without this code, that calls the gateway by its handle (`other_job`)."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.running import KEY, PROMPT, Running, until

pytestmark = pytest.mark.cluster

JOB = Path(__file__).with_name("other_job.py")
SECONDS = 240.0

Answers = dict[str, Any]
_cache: dict[str, dict[str, Answers]] = {}


@pytest.fixture
async def answers(cluster: Running, tmp_path: Path, where: str) -> Answers:
    """What the job heard, from its driver or from a task; it is run once."""
    if cluster.url not in _cache:
        script = shutil.copy(JOB, tmp_path / "job.py")
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PENSTOCK_", "PYTHONPATH"))}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            cluster.gcs_address(),
            PROMPT,
            KEY,
            cwd="/",
            env={**env, "RAY_AUTH_MODE": "token"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await asyncio.wait_for(process.communicate(), SECONDS)
        assert process.returncode == 0, errors.decode()[-3000:]
        _cache[cluster.url] = json.loads(out.decode().partition("\nANSWERS")[2])
    return _cache[cluster.url][where]


@pytest.fixture(params=["driver", "task"])
def where(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_the_job_does_not_have_this_code(answers: Answers) -> None:
    assert answers["found"] == []


def test_a_stream_is_plain_dicts(answers: Answers) -> None:
    *chunks, last = answers["stream"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert last["choices"] == [] or last["choices"][0]["finish_reason"] == "stop"
    deltas = [choice["delta"] for chunk in answers["stream"] for choice in chunk["choices"]]
    assert PROMPT in "".join(delta.get("content") or "" for delta in deltas)


def test_a_whole_answer_is_one_dict(answers: Answers) -> None:
    assert PROMPT in answers["whole"]["choices"][0]["message"]["content"]
    assert answers["whole"]["usage"]["completion_tokens"] > 0


def test_a_key_attributes_the_call(answers: Answers) -> None:
    assert answers["known key"]["object"] == "chat.completion"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("wrong key", "authentication"),
        ("unknown model, whole", "model_not_found"),
        ("bad body", "invalid_request"),
    ],
)
def test_an_error_is_a_dict(answers: Answers, call: str, code: str) -> None:
    assert answers[call]["error"]["code"] == code
    assert answers[call]["error"]["message"]


@pytest.mark.parametrize("call", ["wrong key, stream", "unknown model", "no dict", "refused"])
def test_an_error_before_the_first_token_is_the_only_dict(answers: Answers, call: str) -> None:
    assert [set(chunk) for chunk in answers[call]] == [{"error"}]


def test_an_error_in_mid_stream_is_the_last_dict(answers: Answers) -> None:
    *chunks, last = answers["cut"]
    assert len(chunks) >= 2
    assert all("error" not in chunk for chunk in chunks)
    assert last["error"]["message"]


def test_each_call_is_attributed_in_the_log(cluster: Running, answers: Answers) -> None:
    def callers() -> set[str]:
        files = (cluster.state / "logs").glob("simulator-*.jsonl")
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return {line.get("caller", "") for line in lines if line.get("lane") == "hop"}

    until(lambda: {"internal", "administrator"} <= callers(), 60.0, "calls with and without a key are in the log")
