"""What callers can ask the gateway about its routing, and tell it: three small pages.

    POST /v1/route          explains a decision without making it
    POST /v1/feedback       takes what a caller thinks of an answer; of another one's (`key`) with the right `feedback`
    GET  /v1/performance    how the models stand: win rates, and the frontier of quality, cost and time; for those with
                            the right `usage`

Above it: `gateway`. Below it: `choosing`, `actors.routing.client`, `pipelines.routing`. Outside it: who is let in.
"""

import msgspec

from actors.routing.client import RouterClient
from deployments.choosing import Chooser
from deployments.guard import demand
from deployments.handles import call_from_body
from deployments.http.reading import json_object
from deployments.paths import dialect_of
from deployments.visit import Visit
from pipelines.calls import Caller, Lane
from pipelines.conversation import Json
from pipelines.errors import BadRequest, Overloaded
from pipelines.routing.feedback import Feedback, Said, Verdict, feedback_of
from pipelines.routing.standing import PROMPT_TOKENS, Standing

ROUTING_PAGES = {
    ("post", "/v1/route"): "Explains which models would be asked, and asks none; the body of any conversation",
    ("post", "/v1/feedback"): "What you think of an answer: a score or a thumb, or which of two was better",
    ("get", "/v1/performance"): "How the models stand: win rates, and the frontier of quality, cost and time",
}
"""For people: what there is, by method and path."""


class RoutingPages:
    """lane: that of the calls that are explained."""

    def __init__(self, chooser: Chooser, router: RouterClient, lane: Lane) -> None:
        self._chooser = chooser
        self._router = router
        self._lane = lane

    async def answer(self, visit: Visit, caller: Caller) -> bool:
        """Answer one of the pages; False where the visit asks for none. Raises PenstockError."""
        if (visit.method.lower(), visit.path) not in ROUTING_PAGES:
            return False
        if visit.method == "GET":
            demand(caller, "usage")
            standing = await self.standing()
            told: dict[str, Json] = {"object": "performance", "prompt_tokens": PROMPT_TOKENS}
            told |= msgspec.to_builtins(standing)
        else:
            body = json_object(await visit.body())
            if visit.path == "/v1/route":
                told = self._chooser.explained(call_from_body(body, caller, self._lane, dialect=_dialect(visit, body)))
            else:
                whose = body.pop("key", caller.id)
                if whose != caller.id:
                    demand(caller, "feedback")
                told = await self._feedback(str(whose)[:128], feedback_of(body))
        await visit.reply(200, msgspec.json.encode(told), {})
        return True

    async def standing(self) -> Standing:
        """How the models stand. Raises Overloaded (503) while the router is away."""
        try:
            return msgspec.msgpack.decode(await self._router.standing(), type=Standing)
        except Exception as error:  # Ray raises many classes when an actor is away; each means the same here.
            raise _away() from error

    async def _feedback(self, key: str, feedback: Feedback) -> dict[str, Json]:
        """Feedback on requests of that key."""
        try:
            verdict: Verdict = await self._router.feedback(Said(key, feedback))
        except Exception as error:  # as above
            raise _away() from error
        if verdict.missing:
            message = f"no answer to a request {verdict.missing!r} of this key is remembered"
            raise BadRequest(message, status=404, code="not_found")
        return {
            "object": "feedback",
            "learned": verdict.learned,
            "repeated": verdict.repeated,
            "models": verdict.models,
            "task": verdict.task,
        }


def _away() -> Overloaded:
    return Overloaded("the router does not answer", status=503, retry_after=1.0)


def _dialect(visit: Visit, body: dict[str, Json]) -> str:
    """The dialect of a body that came to no place of a dialect's own."""
    if "input" in body and "messages" not in body:
        return "openai_responses"
    return dialect_of(visit.path, visit.headers)
