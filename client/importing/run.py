"""One run over one source: its parts in chunks through an intake, several at a time. Knows no options."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..client import in_order
from .intake import Intake
from .items import Item, Left, SourceFault, Unreadable, Why, check_id
from .report import Report

AT_ONCE = 2  # chunks; each is sent in one request
CHUNK, _CHUNK_BYTES = 32, 16 << 20  # items, as many as the service encodes at once; and bytes as far as they are known


class Refused(Exception):
    """With `strict`, the first fault ends everything; the argument is a sentence."""


@dataclass(frozen=True)
class Run:
    """How runs are made. `advance` is called for each item; `is_settled` may hold one back for later."""

    intake: Intake
    report: Report
    prefix: str = ""
    strict: bool = False
    advance: Callable[[], None] = lambda: None
    is_settled: Callable[[Item], bool] = lambda item: True

    def over(self, parts: Iterable[Item | Left]) -> bool:
        """Bring in these parts; whether all of the source was seen. Raises `Refused` and what `Intake` raises."""
        whole = True

        def chunks() -> Iterator[list[Item]]:
            nonlocal whole
            try:
                yield from self._chunks(parts)
            except SourceFault as fault:
                whole = False
                self._leave(Left("The source", str(fault)))

        try:
            for _, outcomes in in_order(self.intake, chunks(), AT_ONCE, self.intake.stopping):
                for outcome in outcomes:
                    if self.strict and outcome.what == "refused":
                        raise Refused(f"{outcome.place}: {outcome.reason}")
                    self.report.take(outcome)
                    self.advance()
        except BaseException:
            self.intake.stopping.set()
            raise
        return whole

    def vanished(self, delete: bool, below: Sequence[str] | None = None) -> None:
        """Tell what was there in the last run and is not in this one, and delete it."""
        for known in self.intake.state.vanished(below):
            if not delete or self.intake.dry_run:
                self.report.vanished.append(known.place)
            elif self.intake.remove(known) is not None:
                self.report.vanished.append(known.place)
                self.report.counts["deleted"] += 1

    def _chunks(self, parts: Iterable[Item | Left]) -> Iterator[list[Item]]:
        chunk, size = list[Item](), 0
        for part in parts:
            if isinstance(part, Left):
                self._leave(part)
                continue
            if not self.is_settled(part):
                self.intake.state.see(part.place)
                continue
            try:
                ids = checked(part, self.prefix)
            except Unreadable as fault:
                self._leave(Left(part.shown or part.place, fault.reason))
                continue
            id = self.intake.state.take(part.place, *ids)
            if id is None:
                self._leave(Left(part.shown or part.place, f"Another one has the same id, {part.id}."))
                continue
            item = replace(part, id=id)
            bytes_ = 0 if item.stamp is None else item.stamp.size
            if chunk and (len(chunk) == CHUNK or size + bytes_ > _CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(item)
            size += bytes_
        if chunk:
            yield chunk

    def _leave(self, left: Left) -> None:
        state = self.intake.state
        if left.why is Why.EMPTY and not state.has_below(left.place):
            return
        state.see(left.place)
        if left.hides is not None:
            state.could_not_list(left.hides)
        if self.strict and left.is_fault:
            raise Refused(f"{left.place}: {left.reason}")
        self.report.leave(left)


def checked(item: Item, prefix: str) -> tuple[str, str]:
    """The id and the twin with the prefix, as the service has them. Raises `Unreadable`."""
    return check_id(prefix + item.id), item.twin and check_id(prefix + item.twin)
