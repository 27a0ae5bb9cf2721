"""What a function's docstring says of it and of its arguments: Google's, numpydoc's and Sphinx's forms.

Above it: `functions`. Below it: docstring-parser.
"""

from typing import NamedTuple

import docstring_parser


class Documented(NamedTuple):
    """description: the first paragraph in one line; arguments: what is said of each, by its name."""

    description: str
    arguments: dict[str, str]


def read(docstring: str | None) -> Documented:
    """What a docstring says; nothing where there is none, or none that can be read."""
    try:
        found = docstring_parser.parse(docstring or "")
    except docstring_parser.ParseError:
        return Documented(_line((docstring or "").strip().partition("\n\n")[0]), {})
    arguments = {
        name.strip(" *"): _line(one.description or "") for one in found.params for name in one.arg_name.split(",")
    }
    first, gap, rest = (found.short_description or ""), found.blank_after_short_description, found.long_description
    if rest and not gap:
        # The first paragraph may have several lines, of which the first alone is "short" to the parser.
        first = f"{first} {rest.partition(chr(10) * 2)[0]}"
    return Documented(_line(first), {name: words for name, words in arguments.items() if words})


def _line(text: str) -> str:
    return " ".join(text.split())
