"""What callers can read in the ledger.

    GET    /v1/usage             sums of a time, by key, tag, model, provider, task, day, hour
    GET    /v1/requests          requests, newest first, a page at a time
    GET    /v1/requests/{id}     one request's whole story
    GET    /v1/usage/export      rows of requests or attempts, as CSV or lines of JSON, however many
    DELETE /v1/requests?key=…    takes the rows of a key out

A key sees its own; one with the right `usage` sees everybody's. Only one with the right `admin` takes rows out.

Above it: `gateway`. Below it: `usage_query`, `ledger_forms`, `actors.money.ledger_client`. Outside it: who is let in.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar, get_args

import msgspec

from actors.money.ledger_client import LedgerClient
from deployments.guard import demand
from deployments.pages import ledger_forms, usage_query
from deployments.visit import Leaving, Visit
from pipelines.calls import Caller
from pipelines.conversation import Json
from pipelines.errors import BadRequest, Denied
from pipelines.ledger import Question
from pipelines.ledger_questions import (
    FILTERS,
    Erased,
    Erasure,
    Inquiry,
    Position,
    Rows,
    RowsQuestion,
    Story,
    StoryQuestion,
    Sums,
)

EXPORT_ROWS = 250
"""Rows of an export that are in memory at once; turning them into text takes the loop some 3 ms."""

USAGE_PAGES = {
    ("get", "/v1/usage"): "Sums of requests, tokens and cost: since, until, by=key,tag,model,provider,task,day,hour",
    ("get", "/v1/usage/export"): "Rows as CSV or lines of JSON: format=csv|json, kind=requests|attempts",
    ("get", "/v1/requests"): "Requests, newest first, a page at a time (cursor, limit)",
    ("delete", "/v1/requests"): "Erases who was behind a key's rows (key, sums=anonymous), or the rows (sums=delete)",
    ("get", "/v1/requests/{id}"): "One request with its attempts",
}
"""For people: what there is, by method and path."""

_SPAN = ("since", "until", "key")
_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/x-ndjson"}
_Value = TypeVar("_Value")


class UsagePages:
    """ledger: whom to ask."""

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger

    async def answer(self, visit: Visit, caller: Caller) -> bool:
        """Answer one of the pages; False where the visit asks for none. Raises PenstockError."""
        if (visit.method, visit.path) == ("DELETE", "/v1/requests"):
            await _reply(visit, await self._erase(visit, caller))
            return True
        if visit.method not in ("GET", "HEAD"):
            return False
        if visit.path == "/v1/usage":
            await _reply(visit, await self._usage(visit, caller))
        elif visit.path == "/v1/usage/export":
            await self._export(visit, caller)
        elif visit.path == "/v1/requests":
            await _reply(visit, await self._requests(visit, caller))
        elif visit.path.startswith("/v1/requests/"):
            await _reply(visit, await self._story(visit, caller))
        else:
            return False
        return True

    async def _usage(self, visit: Visit, caller: Caller) -> Json:
        given = usage_query.parameters(visit.query, (*_SPAN, "by", "tag", "model", "provider", "task"))
        question = _own(usage_query.sums(given, time.time()), caller)
        groups = await self._ask(question, list[dict[str, Any]])
        if len(groups) > usage_query.MOST_GROUPS:
            message = f"these are more than {usage_query.MOST_GROUPS} groups: ask for a shorter time, or fewer in `by`"
            raise BadRequest(message, param="by")
        if "hour" in question.by or "day" in question.by:
            groups.sort(key=lambda group: (group.get("day", 0), group.get("hour", 0), -group["cost"]))
        return ledger_forms.usage(question, groups)

    async def _requests(self, visit: Visit, caller: Caller) -> Json:
        given = usage_query.parameters(visit.query, (*_SPAN, *FILTERS, "cursor", "limit"))
        question = _own(usage_query.rows(given, time.time()), caller)
        page = await self._ask(msgspec.structs.replace(question, most=question.most + 1), Rows)
        shown = page.rows[: question.most]
        more = len(page.rows) > question.most
        return {
            "object": "list",
            "data": [ledger_forms.row(page.columns, values) for values in shown],
            "has_more": more,
            "next_cursor": usage_query.cursor(_last(page.columns, shown)) if more else None,
        }

    async def _story(self, visit: Visit, caller: Caller) -> Json:
        usage_query.parameters(visit.query, ())
        name = visit.path.removeprefix("/v1/requests/")
        found = await self._ask(StoryQuestion(id=name, key="" if _sees_all(caller) else caller.id), Story)
        if found.request is None:
            raise BadRequest(f"there is no request {name[:128]!r} of this key", status=404, code="not_found")
        return ledger_forms.story(found)

    async def _export(self, visit: Visit, caller: Caller) -> None:
        given = usage_query.parameters(visit.query, (*_SPAN, *FILTERS, "kind", "format", "cursor"))
        form = usage_query.choice(given, "format", tuple(_TYPES))
        question = _own(usage_query.export(given, time.time()), caller)
        question = msgspec.structs.replace(question, most=EXPORT_ROWS)
        name = f"penstock-{question.kind}.{'csv' if form == 'csv' else 'jsonl'}"
        headers = {"content-type": _TYPES[form], "content-disposition": f'attachment; filename="{name}"'}
        with Leaving(visit.scope, visit.receive) as leaving:
            async with aclosing(self._pages(question)) as pages:
                page = await anext(pages)
                await visit.begin(200, headers)
                if visit.method == "HEAD":
                    await visit.end()
                    return
                if form == "csv":
                    await visit.more(ledger_forms.csv_head(page.columns))
                lines = ledger_forms.csv_lines if form == "csv" else ledger_forms.json_lines
                await visit.more(lines(page))
                async for page in pages:
                    await visit.more(lines(page))
            leaving.stop()
            await visit.end()

    async def _pages(self, question: RowsQuestion) -> AsyncGenerator[Rows, None]:
        """Page after page; each is asked for when the one before it has gone out."""
        while True:
            page = await self._ask(question, Rows)
            yield page
            if len(page.rows) < question.most:
                return
            question = msgspec.structs.replace(question, after=_last(page.columns, page.rows))

    async def _erase(self, visit: Visit, caller: Caller) -> Json:
        given = usage_query.parameters(visit.query, ("key", "sums"))
        demand(caller, "admin")
        if not given.get("key"):
            raise BadRequest("`key` is the id of the key whose rows are to go", param="key")
        sums: Sums = usage_query.choice(given, "sums", get_args(Sums))  # type: ignore[assignment]
        requests = attempts = 0
        more = True
        while more:
            gone = await self._ask(Erasure(key=given["key"], sums=sums), Erased)
            requests, attempts, more = requests + gone.requests, attempts + gone.attempts, gone.more
        return {"object": "erasure", "key": given["key"], "requests": requests, "attempts": attempts, "sums": sums}

    async def _ask(self, inquiry: Inquiry, kind: type[_Value]) -> _Value:
        return msgspec.msgpack.decode(await self._ledger.report(msgspec.msgpack.encode(inquiry)), type=kind)


async def _reply(visit: Visit, told: Json) -> None:
    await visit.reply(200, msgspec.json.encode(told), {})


def _sees_all(caller: Caller) -> bool:
    return caller.may("usage")


_Asked = TypeVar("_Asked", Question, RowsQuestion)


def _own(question: _Asked, caller: Caller) -> _Asked:
    """The question as this caller may ask it. Raises Denied (403) where he asks for another one's."""
    if _sees_all(caller) or question.key == caller.id:
        return question
    if question.key:
        message = "this key sees only its own requests: another one's want the right `usage`"
        raise Denied(message, status=403, code="permission")
    return msgspec.structs.replace(question, key=caller.id)


def _last(columns: tuple[str, ...], rows: list[list[Any]]) -> Position:
    values = dict(zip(columns, rows[-1], strict=True))
    return Position(values["time"], values["id"])
