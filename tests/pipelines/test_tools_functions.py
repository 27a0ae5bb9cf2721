"""Functions as tools: the schema that a model sees, and what becomes of a call."""

import dataclasses
import enum
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from pipelines.conversation import Image, Text
from pipelines.errors import ConfigurationError
from pipelines.tools.catalogue import ArgumentGuard, Progress, Ran, ToolPolicy
from pipelines.tools.functions import FunctionTool, invoke, tool


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    name: str
    height: float = 0.0


@dataclasses.dataclass
class Span:
    first: int
    last: int


@tool
def everything(  # type: ignore[no-untyped-def] # a tool may be without hints
    city: str,
    place: Place,
    span: Span,
    colour: Colour = Colour.RED,
    unit: Literal["c", "f"] = "c",
    many: list[int] | None = None,
    rate: Annotated[float, Field(gt=0, description="Annotated.")] = 1.5,
    schema: str = "",
    anything=None,
) -> str:
    """Says all of it
    in two lines.

    More that no model needs.

    Args:
        city: Its English name,
            in two lines.
        place (Place): Where.
        unit: Degrees.

    Returns:
        nothing: at all.
    """
    return f"{type(place).__name__} {type(span).__name__} {colour.name} {rate} {many}"


async def run(made: FunctionTool[..., Any], **arguments: Any) -> list[Progress | Ran]:
    return [step async for step in invoke(made, arguments)]


def test_the_schema_comes_from_hints_and_docstring() -> None:
    definition = everything.definition
    Draft202012Validator.check_schema(definition.schema)
    properties = definition.schema["properties"]
    assert definition.name == "everything"
    assert definition.description == "Says all of it in two lines."
    assert definition.schema["required"] == ["city", "place", "span"]
    assert definition.schema["additionalProperties"] is False
    assert properties["city"] == {"type": "string", "description": "Its English name, in two lines."}
    assert properties["place"] == {"$ref": "#/$defs/Place", "description": "Where."}
    assert properties["unit"] == {"type": "string", "enum": ["c", "f"], "description": "Degrees.", "default": "c"}
    assert properties["rate"] == {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "Annotated.",
        "default": 1.5,
    }
    assert properties["many"]["default"] is None
    assert set(definition.schema["$defs"]) == {"Place", "Span", "Colour"}


async def test_arguments_become_what_the_hints_say() -> None:
    given = {"city": "Oslo", "place": {"name": "x"}, "span": {"first": 1, "last": 2}, "colour": "blue", "many": ["7"]}
    (ran,) = await run(everything, **given)
    assert ran == Ran(parts=(Text("Place Span BLUE 1.5 [7]"),))


async def test_wrong_arguments_are_told_and_not_repeated() -> None:
    (ran,) = await run(everything, city="secret-city", place={"name": 1}, span={"first": "x", "last": 2}, more=1)
    assert isinstance(ran, Ran)
    assert ran.exit == "error"
    assert "place.name: Input should be a valid string" in ran.error
    assert "secret" not in ran.error


def test_options_are_the_policy() -> None:
    guard = ArgumentGuard("path", "path", roots=("/srv",))

    @tool(name="read", toolset="files", sequential=True, network=True, seconds=5, guards=(guard,), contained=False)
    def function(path: str) -> str:
        return path

    definition = function.definition
    assert (definition.name, definition.toolset, definition.source) == ("read", "files", "python")
    assert definition.policy == ToolPolicy(sequential=True, network=True, seconds=5, guards=(guard,), contained=False)
    assert function("x") == "x"
    assert getattr(function, "__name__") == "function"  # noqa: B009 - wraps gives it


@pytest.mark.parametrize("options", [{"second": 5}, {"seconds": "5"}, {"guards": "path"}])
def test_an_option_that_is_none_is_an_error_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="the tool x"):
        tool(name="x", **options)(lambda: None)


def test_arguments_that_have_no_name_or_no_schema_are_refused_at_once() -> None:
    def star(*values: int) -> None: ...
    def stars(**values: int) -> None: ...
    def positional(value: int, /) -> None: ...
    def odd(value: object.__class__.__mro__.__class__) -> None: ...  # type: ignore[name-defined]
    def generator(value: Iterator[pytest.MonkeyPatch]) -> None: ...

    for function in (star, stars, positional, generator):
        with pytest.raises(ConfigurationError, match=f"the tool {function.__name__}"):
            tool(function)
    assert tool(odd).definition.schema["properties"]


async def test_every_kind_of_function() -> None:
    @tool
    async def coroutine() -> dict[str, int]:
        return {"a": 1}

    @tool
    def generator() -> Generator[str, None, str]:
        yield "one"
        yield "two"
        return "end"

    @tool
    def endless() -> Iterator[object]:
        yield {"step": 1}
        yield None

    @tool
    async def stream() -> AsyncIterator[int]:
        yield 1
        yield 2

    assert await run(coroutine) == [Ran(parts=(Text('{"a":1}'),))]
    assert await run(generator) == [Progress("one"), Progress("two"), Ran(parts=(Text("end"),))]
    assert await run(endless) == [Progress('{"step":1}'), Progress(""), Ran(parts=(Text(""),))]
    assert await run(stream) == [Progress("1"), Progress("2"), Ran(parts=(Text("2"),))]
    assert [made.waits for made in (coroutine, generator, endless, stream)] == [True, False, False, True]


async def test_what_a_function_gives_is_text_or_parts() -> None:
    picture = Image(data="aGk=", media_type="image/png")
    given: list[object] = [None, "text", 1.5, float("nan"), {1, 2}, picture, [Text("a"), picture], "\ud800", object]
    expected = ["", "text", "1.5", '"NaN"', "[1,2]"]

    async def parts(value: object) -> Any:
        @tool
        def gives() -> object:
            return value

        (ran,) = await run(gives)
        assert isinstance(ran, Ran)
        return ran.parts

    assert [(await parts(value))[0].text for value in given[:5]] == expected
    assert await parts(picture) == (picture,)
    assert await parts([Text("a"), picture]) == (Text("a"), picture)
    assert await parts("\ud800") == (Text("?"),)
    assert "class" in (await parts(object))[0].text


async def test_what_a_function_raises_is_told_with_what_it_yielded_before() -> None:
    @tool
    def fails() -> Iterator[str]:
        yield "begun"
        raise LookupError("x" * 5000)

    steps = await run(fails)
    assert steps[0] == Progress("begun")
    ran = steps[1]
    assert isinstance(ran, Ran)
    assert ran.exit == "error"
    assert ran.error.startswith("LookupError: xxx")
    assert len(ran.error) == 2000
