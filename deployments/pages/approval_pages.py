"""Calls of tools that wait for a person, and the decision about one.

    GET  /v1/approvals         those of the caller's key; with the right `approvals`, everybody's
    POST /v1/approvals/{id}    {"decision": "allow"} or {"decision": "deny"}: answers with the rest of the conversation,
                               streamed or whole as its request was, in its dialect

Above it: `gateway`. Below it: `held_calls`, `visit`, `pipelines.tools.approvals`. Outside it: going on.
"""

import time
from collections.abc import Awaitable, Callable

import msgspec

from deployments.guard import Guard, permit
from deployments.http.reading import json_object
from deployments.money.books import opened
from deployments.tools.held_calls import HeldCalls
from deployments.visit import Visit
from pipelines.calls import Call, Caller, Decision
from pipelines.dialects import DIALECTS
from pipelines.errors import BadRequest
from pipelines.options import options_of
from pipelines.tools.approvals import decided

LIST = "/v1/approvals"

APPROVAL_PAGES = {
    ("get", LIST): "Calls of tools that wait for a person",
    ("post", f"{LIST}/{{id}}"): "Allows or denies one, and answers with the rest of its conversation",
}
"""For people: what there is, by method and path."""

Serve = Callable[[Visit, Call], Awaitable[None]]
"""Answers a call that came with a visit (`front.Front.serve`)."""


class ApprovalPages:
    """held: where they wait; guard: who the keys' holders are."""

    def __init__(self, held: HeldCalls, guard: Guard, serve: Serve) -> None:
        self._held = held
        self._guard = guard
        self._serve = serve

    async def answer(self, visit: Visit, caller: Caller) -> bool:
        """Answer one of the pages; False where the visit asks for none. Raises PenstockError."""
        own = "" if caller.may("approvals") else caller.id
        if (visit.method, visit.path) == ("GET", LIST):
            waiting = await self._held.pending(own, time.time())
            await visit.reply(200, msgspec.json.encode({"object": "list", "data": waiting}), {})
        elif visit.method == "POST" and visit.path.startswith(f"{LIST}/"):
            await self._serve(visit, await self._call(visit, caller, visit.path.removeprefix(f"{LIST}/"), own))
        else:
            return False
        return True

    async def _call(self, visit: Visit, caller: Caller, identity: str, own: str) -> Call:
        """The call that goes on with what waits: its owner's, whoever decides."""
        body = await visit.body()
        visit.received = len(body)
        allow = decided(json_object(body))
        kept = await self._held.find(identity, own, time.time())
        holder = caller if kept.key == caller.id else self._guard.known(kept.key)
        if holder is None:
            raise BadRequest("the key whose conversation this was is not valid any more", status=409, code="key_gone")
        was = kept.conversation
        request = DIALECTS[was.dialect].read_request(was.body)
        request = msgspec.structs.replace(request, model=was.paused.request.model)
        account = msgspec.structs.replace(opened(visit.headers, request.metadata), tag=was.tag)
        call = Call(
            id=visit.id,
            dialect=was.dialect,
            body=was.body,
            request=request,
            caller=holder,
            lane="routed",
            headers=was.headers,
            path=was.path,
            options=options_of(was.body),
            account=account,
            decision=Decision(identity, allow, kept.key),
        )
        permit(call, "")
        return call
