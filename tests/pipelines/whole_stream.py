"""A whole stream of any wire, decoded."""

from collections.abc import Iterable

from pipelines.dialects.base import Wire
from pipelines.events import Event, Grammar


def decoded_by(wire: Wire, pieces: Iterable[bytes]) -> list[Event]:
    """All events of a stream that comes in these pieces. Checks the grammar; raises what the decoder raises."""
    decoder = wire.decoder()
    grammar = Grammar()
    events: list[Event] = []
    for piece in pieces:
        events += decoder.feed(piece)
    if not decoder.done:
        events += decoder.close()
    for event in events:
        grammar.check(event)
    grammar.close()
    return events
