"""P12, and all other bad inputs, over HTTP to a real service; `make fuzz` sends 100,000 of them."""

from pathlib import Path

import httpx
import pytest

from tests.fuzz.bad_inputs import MOST_MEMORY, Outcome, flood


@pytest.mark.row("P12")
@pytest.mark.timeout(600)
def test_bad_inputs_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    outcome = flood(tmp_path, 600, 1)
    assert outcome.faults == [] and sum(outcome.statuses.values()) == 600
    assert {kind for kind, status in outcome.statuses if status < 300} >= {"text", "query", "record", "language"}
    assert {status for kind, status in outcome.statuses if kind == "picture"} <= {200, 201, 413, 415, 422}
    assert outcome.pictures == outcome.added > 0
    assert outcome.peak - outcome.idle < 384 << 20


def test_what_should_not_be_is_noticed() -> None:
    for change in ({"faults": ["x"]}, {"added": 1}, {"peak": MOST_MEMORY + 1}):
        assert Outcome().is_good and not Outcome(**change).is_good
    outcome, request = Outcome(), httpx.Request("POST", "http://x")
    outcome.note("text", 1, httpx.Response(500, json={"code": "internal_error"}, request=request))
    outcome.note("text", 2, httpx.Response(422, json={"code": "made_up"}, request=request))
    assert len(outcome.faults) == 2
