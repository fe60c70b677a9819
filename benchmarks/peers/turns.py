"""Blocks in turn, and what rounds of them say: medians, and ratios of neighbours with their spread. Starts nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

OURS = "ours"


def order(kinds: Sequence[str], systems: Sequence[str], rounds: int) -> Iterator[tuple[str, str]]:
    """Yield kind and system of each block: a round has each kind once, and in it each system once, one after the other.

    The first system is another one in each round, so that none always follows the same one.
    """
    for turn in range(rounds):
        first = turn % len(systems)
        for kind in kinds:
            for system in (*systems[first:], *systems[:first]):
                yield kind, system


@dataclass
class Rounds:
    """What was measured, by kind and system, one number a round."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, kind: str, system: str, value: float) -> None:
        """Keep the value of one block."""
        self.values.setdefault(kind, {}).setdefault(system, []).append(value)

    def compute_medians(self, kind: str) -> dict[str, float]:
        """Return the median of each system."""
        return {system: round_figure(median(values)) for system, values in self.values[kind].items()}

    def compute_ratios(self, kind: str) -> dict[str, float | list[float]]:
        """Return ours over each peer's within each round: the median, and the least and the largest."""
        found: dict[str, float | list[float]] = {}
        mine = self.values[kind][OURS]
        for peer, theirs in self.values[kind].items():
            if peer != OURS:
                ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
                found[f"ratio_{peer}"] = round_figure(median(ratios))
                found[f"spread_{peer}"] = [round_figure(min(ratios)), round_figure(max(ratios))]
        return found


def round_figure(value: float) -> float:
    """Return three significant digits: more is noise."""
    return float(f"{value:.3g}")
