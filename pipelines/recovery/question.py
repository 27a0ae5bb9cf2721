"""What the next candidate is asked: the caller's own question, and a last user turn that quotes what was delivered.

A user turn, since newer models refuse an assistant turn at the end (prefill). It asks to begin with the last words
delivered, so that a good answer shows its seam (`seam`): at least `QUOTED` characters from the beginning of a word,
and so many more that they occur only once in the text.

Above it: `stream`. Below it: `seam`, `dialects`. Outside it: which candidate it is for.
"""

import msgspec

from pipelines.calls import Call
from pipelines.dialects import DIALECTS
from pipelines.recovery.seam import begins_word, last_telling

QUOTED = 48
"""Characters that the new answer is asked to begin with, at least, where so many were delivered."""

_QUESTION = """\
Your answer to the above was cut off while it was being sent. The reader already has all of this, and sees it as one \
text with what you write now:

<{delivered}>{text}</{delivered}>

Go on with that answer from the exact place where it stops, as if nothing had happened. Begin by copying its last \
words, character for character:

<{words}>{last}</{words}>

and continue right behind them, in the same language, tone and formatting. If the last word is cut in half, copy the \
half and complete it. Write neither the tags nor a remark about the interruption, and do not repeat or rephrase \
anything from before these words. If the answer is complete as it stands, write only these words."""


def last_words(delivered: str) -> str:
    """The words that a new answer is asked to begin with; all of the text where it is short or repeats itself."""
    text = delivered.strip()
    length = max(QUOTED, len(text) - last_telling(text))
    while length < len(text):
        start = len(text) - length
        while start and not begins_word(text, start):
            start -= 1
        if text.find(text[start:]) == start:
            return text[start:]
        length *= 2
    return text


def question(delivered: str) -> str:
    """The user turn that asks to go on after `delivered`. No tag in it occurs in the text that it encloses."""
    tags = {"delivered": _tag("cut-off-answer", delivered), "words": _tag("last-words", delivered)}
    return _QUESTION.format(text=delivered, last=last_words(delivered), **tags)


def asked_again(call: Call, delivered: str) -> Call:
    """The call for the next candidate: everything as it was, and the question at its end.

    Raises BadRequest if the body cannot be read any more, which one that was read before always can. The new call is
    not to be recovered by itself, nor to be found under the idempotency key of the first.
    """
    dialect = DIALECTS[call.dialect]
    body = dialect.add_user_turn(call.body, question(delivered))
    request = msgspec.structs.replace(dialect.read_request(body), model=call.request.model)
    options = msgspec.structs.replace(call.options, recovery="error")
    return msgspec.structs.replace(call, body=body, request=request, options=options, idempotency_key="")


def _tag(name: str, text: str) -> str:
    """`name`, numbered if the text holds it."""
    tag, number = name, 1
    while tag in text:
        number += 1
        tag = f"{name}-{number}"
    return tag
