"""Where a request may be posted, in which dialect, and what it asks for.

Azure's addresses (`/openai/deployments/{model}/chat/completions?api-version=…`, source: Azure OpenAI REST API
reference) mean the same as OpenAI's, with the model in the path.

Above it: `front`, `hop`. Below it: nothing. Outside it: bodies.
"""

import re
from typing import NamedTuple


class Place(NamedTuple):
    """What stands at a path. operation: "" for a conversation, else the provider's own path below its base URL.

    model: the model that the path itself names.
    """

    path: str
    dialect: str
    operation: str = ""
    model: str = ""


PLACES = {
    place.path: place
    for place in (
        Place("/v1/chat/completions", "openai_chat"),
        Place("/v1/messages", "anthropic_messages"),
        Place("/v1/responses", "openai_responses"),
        Place("/v1/embeddings", "openai_chat", "/embeddings"),
        Place("/v1/completions", "openai_chat", "/completions"),
        Place("/v1/messages/count_tokens", "anthropic_messages", "/messages/count_tokens"),
    )
}

TURNS = Place("/turns", "penstock")
"""One turn of a loop, between our own processes."""

_AZURE = re.compile(
    r"(?:/azure)?(?:/openai)?/deployments/(?P<model>.+?)(?P<rest>/(?:chat/completions|completions|embeddings))"
)


def find(path: str, *, hop: bool = False) -> Place | None:
    """The place at `path`, if there is one. hop: for one of our own processes."""
    place = TURNS if hop and path == TURNS.path else PLACES.get(path)
    if place is None and (azure := _AZURE.fullmatch(path)):
        place = PLACES[f"/v1{azure['rest']}"]._replace(model=azure["model"])
    return place


def dialect_of(path: str, headers: dict[str, str]) -> str:
    """The dialect of a caller who asks for `path`, for an error as much as for an answer."""
    place = find(path)
    if place is not None:
        return place.dialect
    return "anthropic_messages" if "anthropic-version" in headers else "openai_chat"
