"""Guarded child processes that check submitted datasets, so that no client's file fills the memory of the service.

Knows only how reports, refusals and questions about the gallery travel: `model.dataset` decides, `model.processes`
guards. Run as a program, it is one child.
"""

import json
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from model import dataset
from model.dataset import restrict
from model.dataset.rows import PictureLookup, find_ids_of_files
from model.languages import can_read
from model.processes import Child, GuardedPool, read_frame, serve, write_frame
from store.errors import DatasetInvalid, FieldError, PictoglotError

MEMORY = 1 << 30  # bytes of address space of a child; a million rows take half of it
_SECONDS = 1_800.0  # between two answers; a million rows take two minutes of a processor
_KEPT = 256 << 20  # bytes that a child may go on holding while it waits for the next dataset
_ASKED = 50_000  # pictures in one question


@dataclass(frozen=True)
class Submission:
    """A dataset and what to check it for; the arguments of `dataset.read`, `restrict` and `dataset.validate`.

    With `pivot`, it is a dictionary, whose glosses are in that language.
    """

    path: Path
    language: str
    taught_languages: Collection[str]
    base_languages: Collection[str]
    without_missing: bool = False
    to_train: bool = True
    pivot: str | None = None
    things: Path | None = None


class DatasetChecker:
    """Children that check datasets, each limited to `memory` bytes of address space."""

    def __init__(self, processes: int, memory: int = MEMORY) -> None:
        self._pool = GuardedPool(processes, "model.dataset.child", memory, refuse=_make_refusal)

    def close(self) -> None:
        """Stop every child; a dataset that is being checked is refused."""
        self._pool.close(at_once=True)

    @property
    def pids(self) -> list[int]:
        return self._pool.pids

    def check(
        self, submission: Submission, find_known: PictureLookup, some_ids: Callable[[], Sequence[str]]
    ) -> dict[str, Any]:
        """Return the report, in its JSON form, or raise what refuses the dataset; blocks."""
        return self._pool.submit(lambda child: self._check(child, submission, find_known, some_ids)).result()

    def _check(
        self, child: Child, submission: Submission, find_known: PictureLookup, some_ids: Callable[[], Sequence[str]]
    ) -> dict[str, Any]:
        things = submission.things and str(submission.things)
        question: object = {**vars(submission), "path": str(submission.path), "things": things}
        while not {"report", "refusal"} & (answer := json.loads(child.request(_encode(question), _SECONDS))).keys():
            try:
                question = find_known(answer["known"]) if "known" in answer else some_ids()
            except PictoglotError:  # of the registry; the child waits for an answer that does not come
                self._pool.renew(child)
                raise
        if psutil.Process(child.process.pid).memory_info().rss > _KEPT:
            self._pool.renew(child)
        if refusal := answer.get("refusal"):
            errors = tuple(FieldError(*error) for error in refusal["errors"])
            raise PictoglotError.kinds[refusal["code"]](refusal["detail"], errors=errors, **refusal["extra"])
        report: dict[str, Any] = answer["report"]
        return report


def _make_refusal() -> DatasetInvalid:
    return DatasetInvalid(
        "the dataset cannot be read within the limits on time and memory; send it in parts, as JSON lines"
    )


def _encode(value: object) -> bytes:
    return json.dumps(value, default=list).encode()


def _answer(data: bytes, requests: IO[bytes], answers: IO[bytes]) -> bytes:
    fields = json.loads(data)
    path, things = (fields.pop(name) for name in ("path", "things"))
    submission = Submission(Path(path), **fields, things=Path(things) if things else None)

    def ask(question: dict[str, object]) -> list[str]:
        write_frame(answers, _encode(question))
        reply: list[str] = json.loads(read_frame(requests))
        return reply

    def find_known(ids: Sequence[str]) -> set[str]:
        starts = range(0, len(ids), _ASKED)
        return {id for start in starts for id in ask({"known": ids[start : start + _ASKED]})}

    try:
        report = _make_report(submission, find_known, lambda: ask({"some": True}))
        outcome: dict[str, object] = {"report": report.dump()}
    except (MemoryError, PictoglotError) as error:
        refusal = error if isinstance(error, PictoglotError) else _make_refusal()
        outcome = {"refusal": {"code": refusal.code, "detail": refusal.detail, "extra": refusal.extra,
                               "errors": [(each.location, each.code) for each in refusal.errors]}}  # fmt: skip
    return _encode(outcome)


def _make_report(
    submission: Submission, find_known: PictureLookup, some_ids: Callable[[], Sequence[str]]
) -> dataset.DatasetReport:
    """Return the report on the dataset, or `without_missing` on what is left of it."""
    data = dataset.read(
        submission.path,
        language=submission.language,
        find_ids=lambda names: find_ids_of_files(names, find_known),
        pivot=submission.pivot,
        things=submission.things,
    )
    if submission.without_missing:
        named = list(dict.fromkeys(row.picture for row in data.rows if row.picture is not None))
        data = restrict(data, frozenset(find_known(named)))
    return dataset.validate(
        data,
        submission.language,
        find_known,
        lambda pivot: pivot in submission.taught_languages or can_read(submission.base_languages, pivot),
        to_train=submission.to_train,
        some_ids=some_ids,
    )


if __name__ == "__main__":
    parent, memory = map(int, sys.argv[1:])
    serve(parent, memory, _answer)
