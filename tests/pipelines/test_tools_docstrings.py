"""Docstrings in the three common forms."""

import pytest

from pipelines.tools.docstrings import read

GOOGLE = """The first
    line.

    More: of it.

    Args:
        path (str, optional): The file: its path.
            It goes on.
        *rest: Others.
        mode: How.

            After a gap.

    Returns:
        dict: path: not this one.
    """

NUMPY = """The first line.

    Parameters
    ----------
    path : str, optional
        The file: its path.
        It goes on.
    first, last : int
        Both.
    bare

    Returns
    -------
    mode : str
        Not this one.
    """

SPHINX = """The first line.

    :param path: The file: its path.
        It goes on.
    :param int mode: How.
    :type path: str
    :returns: path: not this one.
    """


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (GOOGLE, {"path": "The file: its path. It goes on.", "rest": "Others.", "mode": "How. After a gap."}),
        (NUMPY, {"path": "The file: its path. It goes on.", "first": "Both.", "last": "Both."}),
        (SPHINX, {"path": "The file: its path. It goes on.", "mode": "How."}),
        ("The first line. :param path: no field", {}),
        (":param path: Only this.", {"path": "Only this."}),
        (None, {}),
    ],
)
def test_arguments_are_found(text: str | None, arguments: dict[str, str]) -> None:
    assert read(text).arguments == arguments


def test_the_first_paragraph_is_the_description() -> None:
    assert read(GOOGLE).description == "The first line."
    assert read(SPHINX).description == "The first line."
    assert read(":param path: Only this.").description == ""
    assert read("One.\n:param path: This.").description == "One."
