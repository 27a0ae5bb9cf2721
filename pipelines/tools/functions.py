"""Python functions as tools: `@tool` reads the schema from type hints and docstring, `invoke` calls.

    @tool(network=True, seconds=10)
    async def weather(city: str, days: int = 1) -> str:
        \"""The weather forecast.

        Args:
            city: Its English name.
            days: How many days ahead.
        \"""

A plain function, a coroutine function, a generator or an async generator: what the last two yield is progress, and
their result is what a generator returns, else what was yielded last. The decorated function can be called as before.

Above it: `actors.tools.function_source`, `actors.tools.workshop`, whoever writes tools. Below it: `catalogue`,
`docstrings`, pydantic. Outside it: which functions there are, and in what process they run.
"""

import functools
import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Annotated, Any, Generic, NotRequired, ParamSpec, TypeVar, Unpack, overload

import msgspec
from pydantic import ConfigDict, Field, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_json
from typing_extensions import TypedDict  # Python 3.11's own has no place for pydantic's settings

from pipelines.conversation import File, Image, Json, Text
from pipelines.errors import ConfigurationError
from pipelines.tools import docstrings
from pipelines.tools.catalogue import ArgumentGuard, Progress, Ran, Tool, ToolPolicy

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

_WORDS = 2000
"""Characters of an error at most."""


class ToolOptions(TypedDict, total=False):
    """What `@tool` takes; the fields of `ToolPolicy` as there, where it says which are the usual ones."""

    name: str
    toolset: str
    sequential: bool
    requires_approval: bool
    contained: bool
    network: bool
    seconds: float
    result: int
    concurrent: int
    memory: int
    guards: tuple[ArgumentGuard, ...]


class FunctionTool(Generic[_Given, _Result]):
    """A function that is a tool, and can still be called as the function.

    definition: the tool as the registry takes it, of the source "python". Raises ConfigurationError for a function
    whose arguments cannot be given by name, or whose types have no schema.
    """

    def __init__(self, function: Callable[_Given, _Result], **options: Unpack[ToolOptions]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        name = options.pop("name", "") or str(getattr(function, "__name__", ""))
        toolset = options.pop("toolset", "")
        said = docstrings.read(inspect.getdoc(function))
        self._arguments = _adapter(name, function, said.arguments)
        self.definition = Tool(
            name=name,
            description=said.description,
            schema=_schema(name, self._arguments),
            source="python",
            toolset=toolset,
            policy=_policy(name, options),
        )

    def __call__(self, *args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        """The function itself."""
        return self.function(*args, **kwargs)

    @property
    def waits(self) -> bool:
        """Whether it wants an event loop."""
        return inspect.iscoroutinefunction(self.function) or inspect.isasyncgenfunction(self.function)

    def read(self, arguments: dict[str, Json]) -> dict[str, Any]:
        """The arguments as the types that the function names. Raises ValidationError."""
        read: dict[str, Any] = self._arguments.validate_python(arguments)
        return read


@overload
def tool(function: Callable[_Given, _Result], /) -> FunctionTool[_Given, _Result]: ...
@overload
def tool(
    **options: Unpack[ToolOptions],
) -> Callable[[Callable[_Given, _Result]], FunctionTool[_Given, _Result]]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Unpack[ToolOptions]) -> Any:
    """Make a function a tool: `@tool`, or `@tool(seconds=5, …)`. Raises ConfigurationError as `FunctionTool` does."""
    if function is None:
        return lambda given: FunctionTool(given, **options)
    return FunctionTool(function, **options)


def tools_in(things: Iterable[object]) -> list[FunctionTool[..., Any]]:
    """Those that are tools, each once, in order."""
    found = {id(thing): thing for thing in things if isinstance(thing, FunctionTool)}
    return list(found.values())


async def invoke(made: FunctionTool[..., Any], arguments: dict[str, Json]) -> AsyncGenerator[Progress | Ran, None]:
    """Call it: Progress for what it yields, then one Ran, with whatever it raises in words.

    It awaits nothing where the function does not (`waits`), so that it can be driven without an event loop.
    """
    try:
        values = made.read(arguments)
    except ValidationError as error:
        yield Ran(error=_told(error), exit="error")
        return
    result: object = None
    try:
        outcome = made.function(**values)
        if inspect.isasyncgen(outcome) or isinstance(outcome, AsyncIterator):
            async for result in outcome:
                yield Progress(as_text(result))
        elif inspect.isgenerator(outcome):
            while True:
                try:
                    last = next(outcome)
                except StopIteration as end:
                    result = result if end.value is None else end.value
                    break
                result = last
                yield Progress(as_text(last))
        else:
            result = await outcome if inspect.isawaitable(outcome) else outcome
        yield Ran(parts=as_parts(result))
    except Exception as error:
        yield Ran(error=f"{type(error).__name__}: {error}"[:_WORDS], exit="error")


def as_text(value: object) -> str:
    """A value as a model reads it: text as it is, nothing as "", everything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        # Half of a surrogate pair is in no encoding.
        return value if value.isascii() else value.encode(errors="replace").decode()
    return to_json(value, fallback=str, inf_nan_mode="strings").decode()


def as_parts(value: object) -> tuple[Text | Image | File, ...]:
    """A result: parts as they are, one or several; everything else as one text."""
    if isinstance(value, Text | Image | File):
        return (value,)
    if isinstance(value, list | tuple) and value and all(isinstance(one, Text | Image | File) for one in value):
        return tuple(value)
    return (Text(as_text(value)),)


def _adapter(name: str, function: Callable[..., Any], said: dict[str, str]) -> TypeAdapter[Any]:
    """What reads the arguments of `function`: an object of its parameters, and nothing beside them."""
    fields: dict[str, Any] = {}
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigurationError(f"the tool {name}: {error}") from None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigurationError(f"the tool {name}: {parameter} cannot be given by name")
        kind = hints.get(parameter.name, Any)
        if parameter.name in said:
            kind = Annotated[kind, Field(description=said[parameter.name])]
        if parameter.default is not parameter.empty:
            kind = NotRequired[Annotated[kind, Field(json_schema_extra=_default(parameter.default))]]
        fields[parameter.name] = kind
    arguments = TypedDict("arguments", fields)  # type: ignore[misc] # the fields are known only now
    arguments.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    try:
        return TypeAdapter(arguments)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise ConfigurationError(f"the tool {name}: {str(error).splitlines()[0]}") from None


class _Untitled(GenerateJsonSchema):
    """A title that repeats the argument's name costs tokens and says nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _policy(name: str, options: ToolOptions) -> ToolPolicy:
    if unknown := sorted(options.keys() - set(ToolPolicy.__struct_fields__)):
        raise ConfigurationError(f"the tool {name}: there is no option {unknown[0]!r}")
    try:
        return msgspec.convert(dict(options), ToolPolicy)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"the tool {name}: {error}") from None


def _schema(name: str, arguments: TypeAdapter[Any]) -> dict[str, Json]:
    try:
        schema = arguments.json_schema(schema_generator=_Untitled)
    except PydanticUserError as error:
        raise ConfigurationError(f"the tool {name}: {str(error).splitlines()[0]}") from None
    return {key: value for key, value in schema.items() if key != "title"}


def _default(value: object) -> dict[str, Json]:
    """The default, where JSON has it."""
    return {"default": value} if value is None or isinstance(value, bool | int | float | str) else {}


def _told(error: ValidationError) -> str:
    """What is wrong with arguments, without repeating them."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[:3]
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in first)[:_WORDS]
