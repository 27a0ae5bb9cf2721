"""Arguments, offers, results and secrets: what stands between a model and a tool, and between a tool and a model."""

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.conversation import Image, Request, Text, ToolSpec
from pipelines.errors import BadRequest, Denied, Overloaded, PenstockError
from pipelines.tools.arguments import Checker, WrongArguments, fingerprint
from pipelines.tools.catalogue import Catalogue, Ran, Tool
from pipelines.tools.cutting import MARGIN, MOST_DATA, cut
from pipelines.tools.offers import MOST, names_ours, offered
from pipelines.tools.policy import Rights
from pipelines.tools.redaction import Redactor
from pipelines.tools.results import result_of, shown, text_of
from tests.pipelines.scripted_turns import ECHO, SUM

KEYS = [
    "sk-proj-abcdefghij0123456789ABCDEFGHIJ",
    "sk-ant-api03-abcdefghij0123456789",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghijklmnop",
    "AKIAIOSFODNN7EXAMPLE",
    "xoxb-123456789012-abcdefghijkl",
    "AIza" + "b" * 35,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk",
]


@pytest.mark.parametrize("secret", KEYS)
@pytest.mark.parametrize("around", ["{}", 'key="{}",', "a\n{}\nb", "({})", "url?token={}&x=1"])
def test_keys_of_known_shapes_are_taken_out(secret: str, around: str) -> None:
    told = Redactor().redacted(around.format(secret))
    assert secret.splitlines()[-1][:16] not in told
    assert "[redacted]" in told


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc.def",
        '"authorization": "Basic dXNlcjpwYXNz"',
        "proxy-authorization=token abcdef123",
        "curl -H 'X-Api-Key: 0123456789abcdef'",
        "postgres://user:passw0rd@host/db",
    ],
)
def test_credentials_where_they_are_usually_written_are_taken_out(text: str) -> None:
    told = Redactor().redacted(text)
    assert not any(word in told for word in ("abc.def", "dXNl", "abcdef", "passw0rd"))


@pytest.mark.parametrize(
    "text",
    [
        "The authorization of the budget is due on Monday.",
        "sk-learn is a package; so is npm_config_registry",
        "https://example.org/a:b@c?key=value",
        "a" * 64 + " " + hashlib.sha256(b"").hexdigest(),
        "basic income, bearer bonds and api keys",
    ],
)
def test_plain_text_stays(text: str) -> None:
    assert Redactor().redacted(text) == text


def test_values_that_are_known_by_their_hash_and_the_operators_patterns() -> None:
    value = "correct-horse-battery-staple"
    redactor = Redactor([r"EMP-\d{4}"], [hashlib.sha256(value.encode()).hexdigest()])
    assert redactor.redacted(f"pass {value}, EMP-1234, EMP-12") == "pass [redacted], [redacted], EMP-12"


@given(st.text(max_size=300), st.integers(0, 200))
def test_what_is_shown_is_no_longer_than_it_may(text: str, limit: int) -> None:
    told = shown(text, limit, Redactor())
    size = len(text.encode("utf-8", "surrogatepass"))
    assert told == text if size <= limit else f"\n[cut: the first {limit} of {size} bytes]" in told
    assert len(told.encode("utf-8", "surrogatepass")) <= max(limit, 0) + 60


def test_a_secret_that_the_cut_would_halve_is_taken_out_first() -> None:
    told = shown("x" * 90 + " " + KEYS[0], 100, Redactor())
    assert "sk-" not in told


def answered(*texts: str, limit: int, redactor: Redactor | None = None) -> str:
    """What a model is told of a result that came from an executor."""
    ran = cut(Ran(parts=tuple(map(Text, texts))), limit + MARGIN)
    return text_of(result_of("c", ran, limit, redactor or Redactor()))


def test_a_result_that_an_executor_cut_says_so() -> None:
    assert answered("x" * 200_000, limit=65_536) == "x" * 65_536 + "\n[cut: the first 65536 of 200000 bytes]"
    assert answered("x" * 66_000, limit=65_536) == "x" * 65_536 + "\n[cut: the first 65536 of 66000 bytes]"
    assert answered("x" * 65_536, limit=65_536) == "x" * 65_536
    assert answered("ä" * 50_000, limit=65_536) == "ä" * 32_768 + "\n[cut: the first 65536 of 100000 bytes]"
    several = answered("a" * 60, "b" * 60, "c" * 9_000, "d", limit=100)
    assert several == "a" * 60 + "\n" + "b" * 40 + "\n[cut: the first 100 of 9121 bytes]"


def test_a_result_that_its_source_cut_says_so() -> None:
    page = Ran(parts=(Text("beginning of a page"),), size=1_000_000, cut=True)
    assert text_of(result_of("c", page, 65_536, Redactor())) == (
        "beginning of a page\n[cut: there were at least 1000000 bytes]"
    )
    pictures = cut(Ran(parts=(Text("two"), *[Image(data="x" * MOST_DATA)] * 2)), 100 + MARGIN)
    assert f"[cut: there were at least {2 * MOST_DATA + 3} bytes]" in text_of(
        result_of("c", pictures, 2 * MOST_DATA, Redactor())
    )


@pytest.mark.parametrize("secret", [KEYS[0], "ghp_" + "a1B2" * 9])
@pytest.mark.parametrize("beyond", [0, 1, 20, 5_000])
@pytest.mark.parametrize("before", ["x ", "ä ", KEYS[2] + " "])
def test_no_secret_is_told_by_half(secret: str, before: str, beyond: int) -> None:
    """Neither at the limit nor where the executor cuts, and not when what was taken out before makes room."""
    for limit in (1_000, 8_000):
        for place in (limit, limit + MARGIN):
            for inside in range(1, len(secret), 3):
                size = len(before.encode())
                start = before * ((place - inside) // size)
                text = start + " " * (place - inside - len(start.encode())) + secret + " x" * beyond
                told = answered(text, limit=limit)
                assert secret[:5] not in told
                assert told.count("[cut: ") <= 1
                assert len(told.encode()) <= limit + 60


def test_a_result_is_always_an_answer() -> None:
    assert result_of("c", Ran(), 100, Redactor()).parts == (Text(""),)
    failed = result_of("c", Ran(exit="timeout"), 100, Redactor())
    assert (failed.is_error, failed.parts) == (True, (Text("Error: the tool took too long and was stopped"),))


def test_pictures_have_a_bound_of_their_own_together() -> None:
    screenshot = Image(data="A" * 160_000, media_type="image/png")
    words = Text("### Page state")
    shot = cut(Ran(parts=(words, screenshot)), 65_536 + MARGIN)
    assert result_of("c", shot, 65_536, Redactor()).parts == (words, screenshot)
    long = cut(Ran(parts=(Text("x" * 200), screenshot)), 100 + MARGIN)
    assert result_of("c", long, 100, Redactor()).parts == (
        Text("x" * 100 + "\n[cut: the first 100 of 200 bytes]"),
        screenshot,
    )
    many = cut(Ran(parts=(screenshot, words, *[screenshot] * 60)), 65_536 + MARGIN)
    told = result_of("c", many, 65_536, Redactor())
    assert sum(isinstance(part, Image) for part in told.parts) == MOST_DATA // 160_000
    assert "[cut: there were at least" in text_of(told)
    few = result_of("c", Ran(parts=(screenshot, words, screenshot)), 65_536, Redactor(), 200_000)
    assert few.parts == (screenshot, words, Text("[Image of 160000 bytes: too large to be shown]"))


def test_an_error_is_cut_like_any_text() -> None:
    assert cut(Ran(error="x" * 10, parts=(Text("abc"),)), 11) == Ran(
        error="x" * 10, parts=(Text("a"),), size=13, cut=True
    )
    ran = cut(Ran(error="x" * 200_000, exit="error"), 65_536 + MARGIN)
    assert len(ran.error) == 65_536 + MARGIN
    told = text_of(result_of("c", ran, 65_536, Redactor()))
    assert told == "Error: " + "x" * 65_536 + "\n[cut: the first 65536 of 200000 bytes]"


def checked(schema: dict[str, Any], arguments: str, source: str = "python") -> dict[str, Any]:
    return Checker().read(Tool(name="t", description="", schema=schema, source=source), arguments)


def test_arguments_are_read_and_checked() -> None:
    checker = Checker()
    assert checker.read(SUM, '{"numbers": [1, 2.5]}') == {"numbers": [1, 2.5]}
    assert checker.read(ECHO, "  ") == {}
    for wrong in ('{"numbers": 1}', '{"numbers": [], "more": 1}', "null", "{", '{"a":' * 2000, "\ud800"):
        with pytest.raises(WrongArguments):
            checker.read(SUM, wrong)
    with pytest.raises(WrongArguments, match="longer"):
        checker.read(ECHO, '{"a": "' + "x" * 2**20 + '"}')


def test_no_reference_to_elsewhere_is_fetched() -> None:
    for reference in ("http://127.0.0.1:9/schema.json", "file:///etc/passwd", "other.json#/a"):
        with pytest.raises(WrongArguments, match="refers"):
            checked({"type": "object", "properties": {"a": {"$ref": reference}}}, '{"a": 1}')
    local = {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "number"}}}
    assert checked(local, '{"a": 1}') == {"a": 1}
    with pytest.raises(WrongArguments, match="a: "):
        checked(local, '{"a": "x"}')


def test_a_strangers_regular_expression_is_not_run() -> None:
    endless = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    assert checked(endless, '{"a": "' + "a" * 60 + '!"}', "mcp:stranger")
    closed = {"type": "object", "patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}
    assert checked(closed, '{"' + "a" * 60 + '!": 1}', "openapi:stranger")
    with pytest.raises(WrongArguments):
        checked({"type": "object", "properties": {"a": {"pattern": "^b$"}}}, '{"a": "c"}')
    with pytest.raises(WrongArguments):
        checked({"type": "object", "additionalProperties": False}, '{"a": 1}', "mcp:stranger")


def test_a_changed_schema_is_looked_at_anew() -> None:
    checker = Checker()
    loose = Tool(name="t", description="", schema={"type": "object"}, source="python")
    strict = Tool(name="t", description="", schema={"type": "object", "required": ["a"]}, source="python")
    assert checker.read(loose, "{}") == {}
    with pytest.raises(WrongArguments):
        checker.read(strict, "{}")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"health": "starting"}, Overloaded),
        ({"health": "starting", "held": "changed"}, BadRequest),
        ({"health": "away"}, BadRequest),
        ({"health": "failed"}, BadRequest),
    ],
)
def test_a_tool_whose_source_starts_is_worth_another_try(change: dict[str, Any], error: type[PenstockError]) -> None:
    with pytest.raises(error) as caught:
        offer(ours(name="echo"), tools=(msgspec.structs.replace(ECHO, **change),))
    assert (caught.value.status, caught.value.retry_after) == ((503, 1.0) if error is Overloaded else (400, None))


def test_a_call_is_itself_whatever_the_order_of_its_arguments() -> None:
    assert fingerprint("t", {"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint("t", {"b": {"d": 3, "c": 2}, "a": 1})
    assert fingerprint("t", {"a": 1}) != fingerprint("u", {"a": 1})
    assert fingerprint("t", {"a": 1}) != fingerprint("t", {"a": "1"})


def ours(**entry: Any) -> ToolSpec:
    return ToolSpec("penstock", opaque={"penstock": {"type": "penstock", **entry}})


def offer(*tools: ToolSpec, rights: Rights = Rights(), n: int | None = None, **change: Any) -> list[str]:  # noqa: B008 # frozen
    catalogue = Catalogue(tools=tuple(change.get("tools", (SUM, ECHO))))
    return [spec.name for spec in offered(Request("m", (), tools=tools, n=n), catalogue, rights).request.tools]


def test_what_is_asked_for_is_put_in_its_place() -> None:
    own = ToolSpec("own", schema={})
    assert names_ours(Request("m", (), tools=(own, ours(all=True))))
    assert not names_ours(Request("m", (), tools=(own,)))
    assert offer(own, ours(name="echo")) == ["own", "echo"]
    assert offer(ours(all=True), ours(name="echo"), own) == ["math.sum", "echo", "own"]
    assert offer(ours(all=True), rights=Rights(key=("math.*",))) == ["math.sum"]
    assert offer(ours(all=True), rights=Rights(deny=("math.*",))) == ["echo"]


@pytest.mark.parametrize(
    "entry",
    [{}, {"name": 1}, {"all": False}, {"name": "echo", "toolset": "x"}, {"name": "echo", "more": 1}, {"all": 1}],
)
def test_what_asks_for_nothing_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        offer(ours(**entry))
    assert str(refused.value.param).startswith("tools.0")


def test_what_cannot_be_used_is_said_so() -> None:
    held = Tool(name="held", description="", schema={}, source="mcp:x", held="its schema changed")
    away = Tool(name="away", description="", schema={}, source="mcp:x", health="away", why="its server is away")
    for name, words in (("held", "its schema changed"), ("away", "its server is away"), ("none", "no tool")):
        with pytest.raises(BadRequest, match=words):
            offer(ours(name=name), tools=(held, away))
    with pytest.raises(BadRequest, match="no tool can be used"):
        offer(ours(all=True), tools=(held, away))
    with pytest.raises(Denied) as denied:
        offer(ours(name="echo"), rights=Rights(key=()))
    assert denied.value.status == 403
    with pytest.raises(BadRequest, match="`n`"):
        offer(ours(all=True), n=2)
    with pytest.raises(BadRequest, match="beside the one"):
        offer(ours(all=True), ToolSpec("echo", schema={}))
    with pytest.raises(BadRequest, match="more than"):
        offer(
            ours(all=True), tools=[Tool(name=f"t{n}", description="", schema={}, source="x") for n in range(MOST + 1)]
        )
