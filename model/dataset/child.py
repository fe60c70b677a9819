"""Guarded child processes that check submitted datasets, so that no client's file fills the memory of the service.

Knows only how reports, doubts, refusals and questions about the gallery travel: `model.dataset` decides,
`model.processes` guards. Run as a program, it is one child.
"""

import json
import logging
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from traceback import format_tb
from typing import IO, Any

import psutil

from model import dataset
from model.dataset import MIN_ROWS, Dataset, join, restrict
from model.dataset.doubts import Guess, OwnGuess, find_doubts, guess_nothing, show_rows
from model.dataset.rows import PictureLookup, find_ids_of_files, write_rows
from model.languages import can_read
from model.processes import GuardedChild, GuardedPool, read_frame, serve, write_frame
from store.errors import DatasetInvalid, FieldError, PictoglotError

_log = logging.getLogger(__name__)
MEMORY = 1 << 30  # bytes of address space of a child; a million rows take half of it
_SECONDS = 1_800.0  # between two answers; a million rows take two minutes of a processor
_PATHS = ("path", "things", "waiting")
_KEPT = 256 << 20  # bytes that a child may go on holding while it waits for the next dataset
_ASKED = 50_000  # pictures in one question


@dataclass(frozen=True)
class Submission:
    """A dataset, and what decides whether it may be used: languages, what may be missing, how few rows are enough.

    With `pivot`, it is a dictionary, whose glosses are in that language. Rows that were `waiting` are joined, with what
    can still be read of them. A whole that is smaller than `least` is refused, unless it `may_wait`.
    """

    path: Path
    language: str
    taught_languages: Collection[str]
    base_languages: Collection[str]
    without_missing: bool = False
    to_train: bool = True
    is_of_answers: bool = False  # to words that were asked: not doubted
    least: int = MIN_ROWS
    may_wait: bool = False
    waiting: Path | None = None
    swap: bool = False  # captions and the texts beside them, or words and glosses
    pivot: str | None = None
    things: Path | None = None


@dataclass(frozen=True)
class CheckResult:
    """What is known of a dataset that may be used: its report and doubts in their JSON forms, and its first rows.

    Where all rows are too few to teach the language from, `short` are those of its file, without the ones that waited.
    Otherwise, where it has joined some or swapped sides, all are written as JSON lines to `joined` beside its file.
    """

    report: dict[str, Any]
    doubts: list[dict[str, Any]]
    sample: list[dict[str, Any]]
    short: list[dict[str, Any]] | None
    joined: str | None


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
        self,
        submission: Submission,
        find_known: PictureLookup,
        some_ids: Callable[[], Sequence[str]],
        guess: Guess = guess_nothing,
    ) -> CheckResult:
        """Return what is found, or raise what refuses the dataset; blocks."""

        def answer(question: Mapping[str, Any]) -> object:
            if "known" in question:
                return find_known(question["known"])
            return some_ids() if "some" in question else guess(question["texts"], question["tag"])

        return self._pool.submit(lambda child: self._check(child, submission, answer)).result()

    def _check(
        self, child: GuardedChild, submission: Submission, reply: Callable[[Mapping[str, Any]], object]
    ) -> CheckResult:
        paths = {name: value and str(value) for name, value in vars(submission).items() if name in _PATHS}
        question: object = {**vars(submission), **paths}
        while not {"result", "refusal"} & (answer := json.loads(child.request(_encode(question), _SECONDS))).keys():
            try:
                question = reply(answer)
            except PictoglotError:  # of the registry; the child waits for an answer that does not come
                self._pool.renew(child)
                raise
        if psutil.Process(child.process.pid).memory_info().rss > _KEPT:
            self._pool.renew(child)
        if refusal := answer.get("refusal"):
            if refusal["failure"]:
                _log.error("a dataset could not be checked: %s", refusal["failure"])
            errors = tuple(FieldError(*error) for error in refusal["errors"])
            raise PictoglotError.kinds[refusal["code"]](refusal["detail"], errors=errors, **refusal["extra"])
        return CheckResult(**answer["result"])


def _make_refusal() -> DatasetInvalid:
    return DatasetInvalid(
        "the dataset cannot be read within the limits on time and memory; send it in parts, as JSON lines"
    )


def _describe_refusal(error: Exception) -> dict[str, object]:
    """Return what travels of an error; of one that nobody foresaw its kind and place, but not its text: a client's."""
    failure = None
    if isinstance(error, MemoryError):
        error = _make_refusal()
    elif not isinstance(error, PictoglotError):
        failure = f"{type(error).__name__}\n{''.join(format_tb(error.__traceback__))}"
        error = DatasetInvalid("the dataset cannot be read; send it in another format, such as JSON lines")
    errors = [(each.location, each.code) for each in error.errors]
    return {"code": error.code, "detail": error.detail, "extra": error.extra, "errors": errors, "failure": failure}


def _encode(value: object) -> bytes:
    return json.dumps(value, default=list).encode()


def _answer(data: bytes, requests: IO[bytes], answers: IO[bytes]) -> bytes:
    fields = json.loads(data)
    submission = Submission(**fields | {name: Path(fields[name]) for name in _PATHS if fields[name]})

    def ask(question: dict[str, object]) -> list[Any]:
        write_frame(answers, _encode(question))
        reply: list[Any] = json.loads(read_frame(requests))
        return reply

    def guess(texts: Sequence[str], tag: str) -> list[OwnGuess]:
        return [OwnGuess(*each) for each in ask({"texts": texts, "tag": tag})]

    def find_known(ids: Sequence[str]) -> set[str]:
        starts = range(0, len(ids), _ASKED)
        return {id for start in starts for id in ask({"known": ids[start : start + _ASKED]})}

    try:
        result = _check_rows(submission, find_known, lambda: ask({"some": True}), guess)
        outcome: dict[str, object] = {"result": asdict(result)}
    except Exception as error:  # noqa: BLE001 - ours or a library's: the file is refused, and the child goes on
        outcome = {"refusal": _describe_refusal(error)}
    return _encode(outcome)


def _check_rows(
    submission: Submission, find_known: PictureLookup, some_ids: Callable[[], Sequence[str]], guess: Guess
) -> CheckResult:
    """Check the dataset, or `without_missing` what is left of it."""

    def is_served(pivot: str) -> bool:
        return pivot in submission.taught_languages or can_read(submission.base_languages, pivot)

    data = dataset.read(
        submission.path,
        language=submission.language,
        find_ids=lambda names: find_ids_of_files(names, find_known),
        pivot=submission.pivot,
        things=submission.things,
        swap=submission.swap,
    )
    if submission.without_missing:
        named = list(dict.fromkeys(row.picture for row in data.rows if row.picture is not None))
        data = restrict(data, frozenset(find_known(named)))
    sent = data.rows
    if submission.waiting is not None:
        data = join([_read_waiting(submission.waiting, find_known, is_served), data])
    report = dataset.validate(
        data,
        submission.language,
        find_known,
        is_served,
        to_train=submission.to_train,
        least=1 if submission.may_wait else submission.least,
        some_ids=some_ids,
    )
    doubts = [] if submission.is_of_answers else find_doubts(data.rows, submission.language, guess)
    short, joined = [row.dump() for row in sent] if len(data.rows) < submission.least else None, None
    if (submission.waiting is not None or submission.swap) and short is None:
        joined = f"{submission.path}.joined"
        write_rows(data.rows, Path(joined))
    return CheckResult(
        report.dump(), [*map(asdict, doubts)], [*map(asdict, show_rows(sent or data.rows))], short, joined
    )


def _read_waiting(path: Path, find_known: PictureLookup, is_served: Callable[[str], bool]) -> Dataset:
    """Return rows that waited, without pictures that were deleted since and pivots that are served no more."""
    data = dataset.read(path)
    pictures = {row.picture for row in data.rows if row.picture is not None}
    pivots = {row.pivot.language for row in data.rows if row.pivot is not None}
    return restrict(data, frozenset(find_known([*pictures])), [*filter(is_served, pivots)])


if __name__ == "__main__":
    parent, memory = map(int, sys.argv[1:])
    serve(parent, memory, _answer)
