"""What a service may hold after its answers: acknowledged is there, refused is absent, of the rest either is right."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """The possible values by key; one that nobody wrote is None, which is absent.

    `unnamed` counts, by the first word of a key, what may have been made although nobody learned its key.
    """

    possible: dict[str, list[object]] = field(default_factory=dict)
    unnamed: Counter[str] = field(default_factory=Counter)

    def write(self, key: str, value: object, status: int) -> None:
        """Note that `value` was to be written, and what the answer was; 0 when there was none."""
        if 200 <= status < 300:
            self.possible[key] = [value]
        elif not 400 <= status < 500:
            self.possible[key] = [*self.possible.get(key, [None]), value]

    def compare(self, found: Mapping[str, object]) -> list[str]:
        """Return what differs in a sentence each; from now on each key has the value that was found."""
        problems = []
        for key in sorted({*self.possible, *found}):
            value, possible = found.get(key), self.possible.get(key, [None])
            if key not in self.possible and self.unnamed[key.partition(" ")[0]] > 0:
                self.unnamed[key.partition(" ")[0]] -= 1
            elif value not in possible:
                problems.append(f"{key} is {value!r}, not {' or '.join(map(repr, possible))}")
            self.possible[key] = [value]
        return problems
