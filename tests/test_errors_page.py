"""`docs/errors.md` has every error of the tree, and every code that is given by hand, with their statuses."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from typing import get_args

import pytest

from deployments.error_reference import OWN, REFUSALS, failure
from pipelines import errors
from pipelines.dialects.openai_chat.failures import stream_failure
from pipelines.errors import PenstockError, Reason, ToolFailed, UpstreamError
from tests.test_floors import modules

REFUSERS = {"_refuse": PenstockError}
"""Functions beside the classes that are given a status and a code, in this order."""

WORDS: dict[Reason, str] = {
    "rate_limited": "rate limit",
    "overloaded": "overloaded",
    "server_error": "it broke",
    "timeout": "timed out",
    "context_too_long": "prompt is too long",
    "content_policy": "content policy",
    "invalid_request": "invalid request",
    "not_found": "model_not_found",
    "authentication": "unauthorized",
    "permission": "forbidden",
}
"""What a provider may say in mid-stream, where there is no status."""


def tree(root: type[PenstockError] = PenstockError) -> Iterator[type[PenstockError]]:
    """The classes of `pipelines.errors`; those of other modules are raised and caught within one room."""
    if root.__module__ == errors.__name__:
        yield root
    for kind in root.__subclasses__():
        yield from tree(kind)


def constants() -> dict[str, str]:
    """Words that have a name, by it."""
    return {
        target.id: node.value.value
        for path in modules()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def given() -> Iterator[tuple[type[PenstockError], str, int]]:
    """Each error that is made: its class, code and status, as far as they are written where it is made."""
    kinds = {kind.__name__: kind for kind in tree()}
    named = constants()
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            told = {one.arg: one.value for one in node.keywords}
            if name in REFUSERS and len(node.args) == 3:
                told = {"status": node.args[0], "code": node.args[1]}
            kind = kinds.get(name) or REFUSERS.get(name)
            if kind is None or (name in REFUSERS and "code" not in told):
                continue
            code, status = (_value(told.get(word), getattr(kind, word), named) for word in ("code", "status"))
            if code is not None and status is not None:
                yield kind, str(code), int(status)


def _value(node: ast.expr | None, usual: str | int, named: dict[str, str]) -> str | int | None:
    """What is given; None where that is only known when it runs."""
    if node is None:
        return usual
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int):
        return node.value
    return named.get(node.id) if isinstance(node, ast.Name) else None


def test_every_class_of_ours_has_a_row() -> None:
    ours = {kind for kind in tree() if not issubclass(kind, UpstreamError)}
    assert {row.kind for row in OWN if not row.code} == ours


def test_every_reason_has_a_row() -> None:
    assert set(REFUSALS) == set(get_args(Reason))
    kinds = {kind for kind in tree() if issubclass(kind, UpstreamError)}
    assert {type(failure(reason)) for reason in REFUSALS} == kinds
    assert all(failure(reason).reason == reason for reason in REFUSALS)


def test_every_code_has_its_rows_and_statuses() -> None:
    there: dict[str, set[int]] = defaultdict(set)
    for kind, code, status in given():
        if not issubclass(kind, UpstreamError):
            there[code].update(() if issubclass(kind, ToolFailed) else (status,))
    assert {row.error.code: set(row.told) for row in OWN} == there


def test_every_code_of_a_providers_failure_is_told() -> None:
    told = {code for reason, row in REFUSALS.items() for code in (failure(reason).code, *row.codes)}
    assert {code for kind, code, _ in given() if issubclass(kind, UpstreamError)} <= told


@pytest.mark.parametrize("reason", WORDS)
def test_a_failure_without_a_status_gets_that_of_its_row(reason: Reason) -> None:
    error = stream_failure({"error": {"message": WORDS[reason]}})
    assert (error.reason, error.status) == (reason, REFUSALS[reason].else_status)


def test_what_ends_a_connection_has_the_status_of_its_row() -> None:
    of_connections = [reason for reason in REFUSALS if reason not in WORDS or reason == "timeout"]
    assert len(of_connections) == 3
    assert all(failure(reason).status == REFUSALS[reason].else_status for reason in of_connections)
