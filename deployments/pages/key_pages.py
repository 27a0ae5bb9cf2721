"""Keys over HTTP: made, listed, looked at, changed, rotated and revoked by those who have the right `keys`.

    POST   /v1/keys               makes one; its secret is in the answer, and never to be seen again
    GET    /v1/keys               `limit` at a time, after the key `after`; with `revoked=true` revoked ones too
    GET    /v1/keys/{id}          with what it has spent
    PATCH  /v1/keys/{id}          changes what is in the body (a JSON merge patch)
    DELETE /v1/keys/{id}          revokes; what it has used stays known
    POST   /v1/keys/{id}/rotate   a new secret; the old one is valid for `overlap` further seconds

Nobody gives a right that he has not, nor touches a key that has one: else the right `keys` would be all of them.

Above it: `gateway`. Below it: `key_form`, `actors.money.ledger_client`. Outside it: who is let in; what a key may use.
"""

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from actors.money.ledger_client import LedgerClient
from deployments.http.reading import json_object
from deployments.identity import new_id
from deployments.pages import key_form
from deployments.visit import Visit
from pipelines.calls import Caller
from pipelines.conversation import Json
from pipelines.errors import BadRequest, Denied
from pipelines.keys import (
    SECRET_PREFIX,
    ChangeKey,
    FindKey,
    Key,
    KeyAnswer,
    KeyRequest,
    ListKeys,
    MakeKey,
    RevokeKey,
    RotateKey,
    Settings,
    Spent,
)

PATH = "/v1/keys"
PAGE, LARGEST_PAGE = 20, 200
"""Keys of one answer: where nothing is said, and at the most."""

CHANGES = 5
"""Tries of a change that somebody else was quicker than."""

KEY_PAGES = {
    ("post", PATH): "Makes a key; its secret is shown once",
    ("get", PATH): "Callers' keys, page by page",
    ("get", f"{PATH}/{{id}}"): "One key, with what it has spent",
    ("patch", f"{PATH}/{{id}}"): "Changes a key: a JSON merge patch",
    ("delete", f"{PATH}/{{id}}"): "Revokes a key",
    ("post", f"{PATH}/{{id}}/rotate"): "Gives a key a new secret; the old one is valid for a while",
}
"""For people: what there is, by method and path."""

_answers = msgspec.msgpack.Decoder(KeyAnswer)
_exact = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_MISSING = {
    "missing": BadRequest("there is no such key", status=404, code="not_found"),
    "revoked": BadRequest("the key is revoked, and stays so", status=409, code="revoked"),
    "conflict": BadRequest("the key is being changed by somebody else", status=409, code="conflict"),
}


class KeyPages:
    """ledger: where keys are kept; clock: seconds since 1970."""

    def __init__(self, ledger: LedgerClient, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock = clock

    async def answer(self, visit: Visit, caller: Caller) -> bool:
        """Answer one of the pages; False where the visit asks for none. Raises PenstockError."""
        if visit.path != PATH and not visit.path.startswith(f"{PATH}/"):
            return False
        if not caller.may("keys"):
            raise Denied(
                "this key may not see or change keys: that wants the right `keys`", status=403, code="permission"
            )
        identity, _, action = visit.path.removeprefix(PATH).lstrip("/").partition("/")
        page = self._page(visit.method, identity, action)
        if page is None:
            return False
        status, told = await page(visit, caller, identity)
        await visit.reply(status, msgspec.json.encode(told), {})
        return True

    def _page(
        self, method: str, identity: str, action: str
    ) -> Callable[[Visit, Caller, str], Awaitable[tuple[int, Json]]] | None:
        if action:
            return self._rotate if (method, action) == ("POST", "rotate") else None
        if not identity:
            return {"POST": self._make, "GET": self._list}.get(method)
        return {"GET": self._show, "PATCH": self._change, "DELETE": self._revoke}.get(method)

    async def _make(self, visit: Visit, caller: Caller, _: str) -> tuple[int, Json]:
        settings = key_form.made(await _body(visit))
        self._in_future(settings)
        _may_give(caller, settings)
        secret = _secret()
        key, spent = await self._one(MakeKey(f"key-{new_id()}", settings, _hash(secret)))
        return 201, {**key_form.shown(key, spent, self._clock()), "secret": secret}

    async def _list(self, visit: Visit, caller: Caller, _: str) -> tuple[int, Json]:
        asked = dict(parse_qsl(visit.query, keep_blank_values=True))
        limit = asked.pop("limit", str(PAGE))
        after, revoked = asked.pop("after", ""), asked.pop("revoked", "false")
        if asked:
            raise BadRequest(f"`{next(iter(asked))[:100]}` is unknown: there are limit, after and revoked")
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= LARGEST_PAGE:
            raise BadRequest(f"`limit` must be from 1 to {LARGEST_PAGE}", param="limit")
        if revoked not in ("true", "false"):
            raise BadRequest("`revoked` must be true or false", param="revoked")
        answer = await self._asked(ListKeys(after, int(limit), revoked == "true"))
        data = [key_form.shown(key, spent, self._clock()) for key, spent in answer.keys]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return 200, {"object": "list", "data": data, "has_more": answer.more, **ends}

    async def _show(self, visit: Visit, caller: Caller, identity: str) -> tuple[int, Json]:
        return 200, self._shown(await self._one(FindKey(identity)))

    async def _change(self, visit: Visit, caller: Caller, identity: str) -> tuple[int, Json]:
        body = await _body(visit)
        for _ in range(CHANGES):
            key, _spent = await self._one(FindKey(identity))
            settings = key_form.changed(body, key)
            if body.get("expires") is not None:
                self._in_future(settings)
            _may_give(caller, key.settings)
            _may_give(caller, settings)
            answer = await self._asked(ChangeKey(identity, settings, key.changed))
            if answer.problem != "conflict":
                return 200, self._shown(_only(answer))
        raise _problem("conflict")

    async def _revoke(self, visit: Visit, caller: Caller, identity: str) -> tuple[int, Json]:
        key, _ = await self._one(FindKey(identity))
        _may_give(caller, key.settings)
        return 200, self._shown(await self._one(RevokeKey(identity)))

    async def _rotate(self, visit: Visit, caller: Caller, identity: str) -> tuple[int, Json]:
        overlap = key_form.overlap(await _body(visit, empty=True))
        key, _ = await self._one(FindKey(identity))
        _may_give(caller, key.settings)
        secret = _secret()
        shown = self._shown(await self._one(RotateKey(identity, _hash(secret), overlap)))
        return 200, {**shown, "secret": secret}

    async def _one(self, request: KeyRequest) -> tuple[Key, Spent]:
        return _only(await self._asked(request))

    async def _asked(self, request: KeyRequest) -> KeyAnswer:
        return _answers.decode(await self._ledger.keys(msgspec.msgpack.encode(request)))

    def _shown(self, found: tuple[Key, Spent]) -> dict[str, Json]:
        return key_form.shown(*found, self._clock())

    def _in_future(self, settings: Settings) -> None:
        if settings.expires is not None and settings.expires <= self._clock():
            raise BadRequest("`expires` is over already", param="expires")


def _only(answer: KeyAnswer) -> tuple[Key, Spent]:
    if answer.problem:
        raise _problem(answer.problem)
    return answer.keys[0]


def _problem(word: str) -> BadRequest:
    known = _MISSING[word]
    return BadRequest(known.message, status=known.status, code=known.code)


def _may_give(caller: Caller, settings: Settings) -> None:
    """Raises Denied (403) for a key with a right that the caller has not."""
    lacking = [right for right in settings.rights if not caller.may(right)]
    if lacking:
        raise Denied(f"this key has not the right {lacking[0]} itself", status=403, code="permission")


async def _body(visit: Visit, *, empty: bool = False) -> dict[str, Any]:
    """The body, its numbers exact. Raises BadRequest for what is no JSON object. empty: there may be none."""
    raw = await visit.body()
    if empty and not raw.strip():
        return {}
    json_object(raw)
    return _exact.decode(raw)


def _secret() -> str:
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
