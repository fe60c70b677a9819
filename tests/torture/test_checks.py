"""Each check of torture can fail: what a broken service would answer is named as what it is."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.house.source import is_under, list_modules
from tests.torture.client import Answer
from tests.torture.draws import FAULTS, STEPS_DRAWN, draw
from tests.torture.faults import EXCUSED, Nemesis, Windows
from tests.torture.histories import shrink
from tests.torture.languages import Lineage
from tests.torture.ledger import Ledger, Record, State, Violation, Write, judge_counts, judge_hits
from tests.torture.looks import make_matcher
from tests.torture.settle import judge_end, judge_log
from tests.torture.steps import Runner
from tests.torture.writes import Judge

RED, BLUE = Record(1, "museum", ("bridge",)), Record(2)


def acknowledged(ledger: Ledger, kind: str, status: int, id: str = "p", **changes: Any) -> None:
    write = Write(kind, id, changes)
    ledger.acknowledge(write, ledger.begin(write), status, "api1")


def with_one() -> Ledger:
    ledger = Ledger()
    acknowledged(ledger, "put", 201, content=1)
    return ledger


def broken(kind: str) -> Any:
    return pytest.raises(Violation, match=f"^{kind}: ")


def test_an_acknowledged_picture_that_is_gone_is_lost() -> None:
    with broken("lost"):
        with_one().observe("p", None, at=1)
    with broken("lost"):
        acknowledged(with_one(), "patch", 404, year=1950)
    with broken("lost"):
        acknowledged(with_one(), "put", 201, content=1)


def test_a_deleted_picture_that_is_found_is_back() -> None:
    ledger = with_one()
    acknowledged(ledger, "delete", 204)
    with broken("back"):
        ledger.observe("p", Record(1), at=1)
    with broken("back"):
        acknowledged(ledger, "put", 200, content=1)


def test_a_record_with_parts_of_two_is_mixed() -> None:
    ledger = with_one()
    acknowledged(ledger, "put", 200, content=2, year=1900)
    with broken("mixed"):
        ledger.observe("p", Record(1, year=1900), at=1)
    acknowledged(ledger, "patch", 200, year=1950)
    ledger.observe("p", Record(2, year=1950), at=1)


def test_a_write_without_an_answer_may_have_happened_and_then_stays_so() -> None:
    for seen, other in ((None, Record(1)), (Record(1), None)):
        ledger = with_one()
        write = Write("delete", "p", {})
        ledger.begin(write)
        ledger.note_lost_answer(write, until=5)
        ledger.observe("p", other, at=4)  # the database may still be at it
        assert not ledger.is_certain()
        ledger.observe("p", seen, at=6)
        with broken("lost" if seen else "back"):
            ledger.observe("p", other, at=7)


def test_what_was_refused_changed_nothing() -> None:
    ledger = with_one()
    write = Write("patch", "p", {"year": 1950})
    ledger.refuse(write, ledger.begin(write))
    with broken("mixed"):
        ledger.observe("p", Record(1, year=1950), at=1)


def test_every_entry_is_a_line_of_the_ledger(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.jsonl").note(write="put", id="é")
    assert json.loads((tmp_path / "ledger.jsonl").read_text("utf-8"))["id"] == "é"


def wrong(hits: dict[str, float], states: dict[str, frozenset[State]], collection: str | None = None) -> list[str]:
    found = judge_hits(hits, states, make_matcher(None, collection), lambda content: 0.1 * content)
    return [kind for kind, _, _ in found]


def test_hits_are_those_of_the_ledger() -> None:
    states: dict[str, frozenset[State]] = {"a": frozenset({RED}), "b": frozenset({BLUE, None})}
    assert wrong({"a": 0.1}, states) == wrong({"a": 0.1, "b": 0.2}, states) == []
    assert wrong({}, states) == ["lost"]
    assert wrong({"a": 0.1, "c": 0.1}, states) == ["back"]  # also an entry that the ledger lacks
    assert wrong({"a": 0.1000031}, states) == ["mixed"]  # a vector with a flipped bit
    assert wrong({"a": 0.1, "b": 0.2}, states, "museum") == ["back"]  # a bound key sees another collection


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ({"key": "tags", "match": {"value": "bridge"}}, {"a"}),
        ({"key": "collection", "match": {"any": ["default"]}}, {"b"}),
        ({"key": "year", "range": {"gte": 1950}}, set()),
    ],
)
def test_filters_leave_what_they_should(condition: dict[str, Any], left: set[str]) -> None:
    assert {id for id, record in {"a": RED, "b": BLUE}.items() if make_matcher(condition, None)(record)} == left


def test_counts_are_those_of_the_ledger() -> None:
    states: dict[str, frozenset[State]] = {"a": frozenset({RED}), "b": frozenset({BLUE, None})}

    def judged(**counts: int) -> list[str]:
        return judge_counts(counts, states, lambda record: [record.collection])

    assert judged(museum=1) == judged(museum=1, default=1) == []
    assert judged() == ["museum counts 0, not 1 to 1"]
    assert judged(museum=1, default=2) == ["default counts 2, not 0 to 1"]


def release(number: int, change: dict[str, Any], **languages: int) -> dict[str, Any]:
    return {"number": number, "shared": 0, "languages": languages, "change": change, "created_at": "t"}


FIRST = release(1, {"kind": "initial"}, en=0)
SECOND = release(2, {"kind": "promote", "language": "cy"}, en=0, cy=1)


def test_releases_only_grow_and_change_one_language() -> None:
    lineage = Lineage()
    lineage.see_releases([SECOND, FIRST])
    with broken("release"):
        lineage.see_releases([FIRST])
    with broken("release"):
        lineage.see_releases([FIRST, {**SECOND, "languages": {"en": 0, "cy": 2}}])
    with broken("mixed"):
        lineage.see_releases([FIRST, SECOND, release(3, {"kind": "rollback", "language": "br"}, en=0, cy=2)])
    with broken("release"):
        lineage.see_releases([FIRST, SECOND, release(3, {"kind": "restore", "restored": 1}, en=0, cy=1)])
    lineage.see_served("api1", 2)
    with broken("release"):
        lineage.see_served("api1", 1)


def test_one_bit_of_a_vector_is_noticed() -> None:
    lineage = Lineage()
    lineage.see_vectors("cy", 1, ((0.5, 0.25),))
    lineage.see_vectors("cy", 2, ((0.5, 0.5),))
    lineage.see_vectors("cy", 1, ((0.5, 0.25),))
    with broken("mixed"):
        lineage.see_vectors("cy", 1, ((0.5, 0.25000000000000006),))


def test_an_acknowledged_submission_is_there_once_with_one_version() -> None:
    lineage = Lineage()
    lineage.submitted["e1"] = "cy"
    done, version = {"id": "e1", "state": "succeeded", "kind": "learn"}, {"expansion": "e1"}
    lineage.see_expansions([done], [version, {"expansion": None}])
    with broken("lost"):
        lineage.see_expansions([], [])
    with broken("lost"):
        lineage.see_expansions([done], [])
    with broken("lost"):
        lineage.see_expansions([done], [version, version])


def answer(status: int, code: str = "", begun: float = 0.0) -> Answer:
    return Answer("api1", status, {"code": code} if code else None, True, begun, begun)


def test_a_refusal_needs_a_fault_that_excuses_it() -> None:
    windows = Windows()
    judge = Judge(windows, Counter())
    with broken("undocumented"):
        judge.accept(answer(503, "overloaded"), "a search")
    with broken("silent"):
        judge.accept(answer(0), "a search")
    end = windows.begin("kill_api", "api1")
    judge.accept(answer(503, "overloaded", begun=float("inf")), "a search")
    judge.accept(answer(0, begun=float("inf")), "a search")
    with broken("undocumented"):
        judge.accept(answer(507, "storage_full", begun=float("inf")), "a put")
    with broken("undocumented"):
        judge.accept(answer(500, "internal_error", begun=float("inf")), "a search")
    end()
    with broken("undocumented"):
        judge.accept(answer(503, "overloaded", begun=float("inf")), "a search")  # long after it


def test_a_busy_machine_excuses_a_few_refusals_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.torture.writes.is_busy", lambda: True)
    judge = Judge(Windows(), Counter({"acknowledged writes": 10}))
    for _ in range(6):
        judge.accept(answer(503, "registry_unavailable"), "a put")
    with broken("undocumented"):
        judge.accept(answer(503, "registry_unavailable"), "a put")


def test_an_expansion_may_fail_by_kills_of_its_own_process_alone() -> None:
    failed = {"id": "e1", "language": "cy", "state": "failed", "error": {"code": "too_many_attempts"}}
    judge_end(failed, child_kills=3)
    judge_end({**failed, "state": "succeeded", "error": None}, child_kills=0)
    with broken("failed"):
        judge_end(failed, child_kills=2)
    with broken("failed"):
        judge_end({**failed, "error": {"code": "checkpoint_mismatch"}}, child_kills=3)


def test_logs_have_no_key_and_no_stack() -> None:
    assert judge_log('{"level": "info"}\n', ["secret"]) == []
    assert judge_log("a secret line", ["secret"]) == ["“secret”"]
    assert judge_log('{"error": "Traceback (most recent call last): ..."}', []) != []


def test_a_seed_has_one_history_and_every_step_can_be_carried_out() -> None:
    first = [draw(7, number) for number in range(400)]
    assert first == [draw(7, number) for number in range(400)] == json.loads(json.dumps(first))
    assert first != [draw(8, number) for number in range(400)]
    assert {step["step"] for step in first} == set(STEPS_DRAWN)
    assert {step["fault"]["kind"] for step in first if "fault" in step} == set(FAULTS) <= set(EXCUSED)
    assert all(hasattr(Runner, f"_{kind}") for kind in STEPS_DRAWN) and all(hasattr(Nemesis, f"_{k}") for k in FAULTS)


def test_a_history_that_fails_is_made_smaller() -> None:
    steps = [{"step": str(number)} for number in range(40)]
    fatal = [steps[3], steps[29]]
    assert shrink(steps, lambda some: all(step in some for step in fatal), lambda: False) == fatal
    assert shrink(steps, lambda some: True, lambda: True) == steps  # there was no time


# What starts programs and servers of others. None of it imports ours but for `tests.patience`.
SERVERS = (
    *("tests.launcher", "tests.commit_proxy", "tests.postgresql_server", "tests.redis_server", "tests.s3_server"),
)


def test_torture_imports_nothing_that_it_tortures() -> None:
    inside = ("model", "index", "service", "worker", "demo", "tests")
    found = [
        f"{module.name} imports {name}"
        for module in list_modules("tests")
        if is_under(module.name, "tests.torture") and not module.name.rpartition(".")[2].startswith("test_")
        for name, _ in module.list_imports()
        if any(is_under(name, package) for package in inside)
        and not any(is_under(name, own) for own in ("tests.torture", *SERVERS))
    ]
    assert found == []
