"""What is written of a failure, and what is not."""

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.telemetry.trouble_log import write_troubles

PROMPT = "what the caller asked"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    handler = write_troubles(tmp_path / "logs", "gateway-7")
    yield tmp_path / "logs" / "gateway-7.log"
    logging.getLogger("penstock").removeHandler(handler)
    handler.close()


def test_a_failure_is_told_with_its_place_and_without_its_message(log: Path) -> None:
    nothing: dict[str, str] = {}
    try:
        nothing[PROMPT]
    except KeyError:
        logging.getLogger("penstock").exception("request %s failed", "r-1")
    written = log.read_text()
    assert "request r-1 failed" in written
    assert "KeyError" in written
    assert Path(__file__).name in written
    assert PROMPT not in written


def test_warnings_of_every_part_are_kept_and_chatter_is_not(log: Path) -> None:
    logging.getLogger("penstock.client").warning("the router does not answer")
    logging.getLogger("penstock.client").info("chatter")
    assert "penstock.client the router does not answer" in log.read_text()
    assert "chatter" not in log.read_text()


def test_the_file_is_private(log: Path) -> None:
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
