"""Anthropic's Messages API, put together from the readers and writers of this package.

Above it: `pipelines.dialects`. Below it: every other module of this package.
"""

import re

from pipelines.dialects.anthropic_messages import answers, failures, relay
from pipelines.dialects.anthropic_messages.decoder import MessagesDecoder
from pipelines.dialects.anthropic_messages.encoder import SENTINEL, MessagesEncoder
from pipelines.dialects.anthropic_messages.opaque import NAME
from pipelines.dialects.anthropic_messages.request_reader import read_request
from pipelines.dialects.anthropic_messages.request_writer import write_request
from pipelines.dialects.base import Dialect

ANTHROPIC_MESSAGES = Dialect(
    name=NAME,
    path="/messages",
    sentinel=SENTINEL,
    last=re.compile(rb'"type": ?"message_stop"[^\n]*\s*\Z'),
    telling=relay.TELLING,
    read_request=read_request,
    encoder=MessagesEncoder,
    write_answer=answers.write_answer,
    write_error=failures.write_error,
    write_request=write_request,
    decoder=MessagesDecoder,
    read_answer=answers.read_answer,
    read_error=failures.read_error,
    relay_request=relay.relay_request,
    set_cost=relay.set_cost,
)
