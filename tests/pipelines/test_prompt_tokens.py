"""The likely length of a conversation: words by their length, everything else by flat figures."""

import msgspec
import pytest

from pipelines.conversation import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from pipelines.ledger import counted
from pipelines.prompt_tokens import Size, likely_input, size_of

MEGABYTE = "A" * 1_400_000
LETTER = {"anthropic_messages": {"signature": "s" * 10_000}}


@pytest.mark.parametrize(
    ("part", "size"),
    [
        (Text("four"), Size(4)),
        (Text("vier ß €", {"anthropic_messages": {"citations": [MEGABYTE]}}), Size(11)),
        (Text("\ud800"), Size(3)),
        (Reasoning("hm", LETTER), Size(2)),
        (Refusal("no"), Size(2)),
        (ToolCall("id", "f", '{"a":1}'), Size(8)),
        (ToolResult("id", (Text("four"), Image(data=MEGABYTE))), Size(4, 1600)),
        (Image(data=MEGABYTE, media_type="image/png"), Size(0, 1600)),
        (Image(url="https://example.org/x.png"), Size(0, 1600)),
        (Audio(data=MEGABYTE, format="mp3"), Size(0, 656)),
        (File(data="A" * 40_000, media_type="application/pdf"), Size(0, 3000)),
        (File(data=MEGABYTE, media_type="application/pdf"), Size(0, 66_000)),
        (File(data=MEGABYTE * 10, media_type="application/pdf"), Size(0, 300_000)),
        (File(data="A" * 400, media_type="text/plain"), Size(300)),
        (File(text="four", media_type="text/plain"), Size(4)),
        (File(file_id="file_1"), Size(0, 3000)),
        (Foreign({"anthropic_messages": {"data": MEGABYTE}}), Size()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_part_is_likely_to_have(part: Part, size: Size) -> None:
    assert size_of(Request("m", (Message("user", (part,)), Message("user", (part,))))) == Size(*[2 * n for n in size])


def test_words_and_pictures_together() -> None:
    parts = (Text("x" * 4000), Image(url="https://example.org/x.png"))
    assert likely_input(Request("m", (Message("system", (Text("four"),)), Message("user", parts)))) == 2601


def test_tools_and_the_form_of_the_answer_count() -> None:
    schema = {"type": "object", "properties": {f"argument{number}": {"type": "string"} for number in range(100)}}
    written = len(msgspec.json.encode(schema))
    bare = Request("m", (Message("user", (Text("Hello"),)),))
    tool = ToolSpec("search", "Finds what is there.", schema)
    own = ToolSpec("web_search", opaque={"anthropic_messages": {"tool": {"type": "web_search_20250305"}}})
    assert size_of(msgspec.structs.replace(bare, tools=(tool, own))).words == 5 + 26 + written + 10
    formed = msgspec.structs.replace(bare, output_format=OutputFormat("json_schema", schema=schema))
    assert size_of(formed).words == 5 + written


def test_who_leaves_before_the_end_is_charged_for_what_he_asked() -> None:
    parts = (Text("Read it."), ToolCall("1", "read", '{"path": "a"}'), ToolResult("1", (Text("four" * 100_000),)))
    request = Request("m", (Message("user", parts),))
    cancelled = counted(Usage(output=3, estimated=True), request)
    assert cancelled.input == pytest.approx(100_000, abs=10)
    assert cancelled.output == 3
    assert counted(Usage(input=7, output=3), request).input == 7
