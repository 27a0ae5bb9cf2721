"""What changes without a restart: Serve's `user_config`, over the arguments of an application.

Above it: `replica`. Below it: `config`, `setting`. Outside it: what a replica does with the values (`Replica.adapt`).
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from deployments.config import ReplicaSettings
from deployments.settings.setting import fault
from pipelines.errors import ConfigurationError

Replicated = TypeVar("Replicated", bound=ReplicaSettings)


def altered(settings: Replicated, given: Mapping[str, Any]) -> Replicated:
    """The settings with what is `given` in place of theirs: names of LIVE and their values, as a person writes them.

    Raises ConfigurationError for another name, and for a value that does not fit.
    """
    if others := sorted(given.keys() - settings.LIVE):
        able = ", ".join(sorted(settings.LIVE))
        raise ConfigurationError(f"user_config cannot change {others[0]}: it may have {able}")
    try:
        return type(settings).model_validate({**settings.model_dump(exclude_unset=True), **given})
    except ValidationError as error:
        raise ConfigurationError(f"user_config: {fault(error)}") from None
