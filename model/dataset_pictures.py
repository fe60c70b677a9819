"""Pictures that a dataset names by a file, `IMG_0001.jpg`, where the gallery has the id `IMG_0001`. Reads no file."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence

_FILE = re.compile(r"(.*[^/])\.[a-z][a-z0-9]{1,4}", re.IGNORECASE | re.DOTALL)  # `2019.08` and `bridge-1.2` are none

Known = Callable[[Sequence[str]], Collection[str]]


def without_suffix(names: Iterable[str]) -> dict[str, str]:
    """Those of some names of pictures that end as files do, each with what it is without its suffix."""
    return {name: found[1] for name in names if (found := _FILE.fullmatch(name))}


def ids_of_files(names: Iterable[str], known: Known) -> dict[str, str]:
    """The ids of those pictures that are named by their files; `known` returns those of some ids that the gallery has.

    What is an id as it is written is no file's name, and stays.
    """
    files = without_suffix(names)
    there = known([*files, *files.values()]) if files else ()
    return {name: id for name, id in files.items() if name not in there and id in there}
