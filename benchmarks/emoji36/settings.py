"""Reads `--set NAME=VALUE`: any setting of a training, also those that the API does not take."""

from collections.abc import Sequence

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from benchmarks.emoji36.errors import Refused
from model.training import LearnSettings

_CHECKED = TypeAdapter(dataclass(LearnSettings, frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False)))


def read_settings(words: Sequence[str]) -> LearnSettings:
    """Return the defaults with what the words say in their place; raises `Refused`."""
    try:
        checked = _CHECKED.validate_strings(dict(each.partition("=")[::2] for each in words))
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(f"--set: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return LearnSettings(**vars(checked))
