"""OpenAI chat completions, put together from the readers and writers of this package.

Above it: `pipelines.dialects`. Below it: every other module of this package.
"""

import re

from pipelines.dialects.base import Dialect
from pipelines.dialects.openai_chat import answers, failures, relay
from pipelines.dialects.openai_chat.decoder import ChatDecoder
from pipelines.dialects.openai_chat.encoder import DONE, ChatEncoder
from pipelines.dialects.openai_chat.plain import read_plain
from pipelines.dialects.openai_chat.repeats import Repeats
from pipelines.dialects.openai_chat.request_reader import read_request
from pipelines.dialects.openai_chat.request_writer import write_request
from pipelines.dialects.openai_chat.thoughts import KEY

OPENAI_CHAT = Dialect(
    name=KEY,
    path="/chat/completions",
    sentinel=DONE,
    # At the beginning of a line; said behind its first letters, so that a piece is searched for these alone.
    last=re.compile(rb"data:(?<![^\n]data:) ?\[DONE\]\s*\Z"),
    telling=relay.TELLING,
    read_request=read_request,
    encoder=ChatEncoder,
    write_answer=answers.write_answer,
    write_error=failures.write_error,
    write_request=write_request,
    decoder=ChatDecoder,
    read_answer=answers.read_answer,
    read_error=failures.read_error,
    relay_request=relay.relay_request,
    relay_frame=relay.relay_frame,
    mender=Repeats,
    read_plain=read_plain,
    set_cost=relay.set_cost,
)
