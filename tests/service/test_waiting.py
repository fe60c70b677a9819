"""Small datasets: the first ones of a language wait for each other, later ones join it."""

import json
from typing import Any

from tests.service.harness import Service, learn
from tests.service.test_languages import teach


def make_few(start: int, count: int) -> bytes:
    rows = [{"caption": f"kernowek {n}", "english": f"a sentence {n}"} for n in range(start, start + count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_a_first_file_that_is_too_small_waits_until_the_next_one_joins_it(service: Service) -> None:
    def find(tag: str) -> Any:
        return next(item for item in service.admin.get("/v1/languages").json()["items"] if item["language"] == tag)

    checked = teach(service, "kw", make_few(0, 17), dry_run="true").json()
    assert checked["waiting"] == {"rows": 17, "needed": 64} and checked["dry_run"]
    assert service.context.registry.waiting.list("kw") == []
    for _ in range(2):  # sent again, they count once
        kept = teach(service, "kw", make_few(0, 17))
        assert (kept.status_code, kept.json()["waiting"]) == (200, {"rows": 17, "needed": 64})
    assert (find("kw")["waiting"], find("kw")["version"]) == (17, None)
    assert teach(service, "kw", make_few(10, 20)).json()["waiting"]["rows"] == 30
    table = "english;kernewek\n" + "".join(f"a sentence {n};kernowek {n}\n" for n in range(30, 70))
    sent = teach(service, "kw", table.encode())
    assert sent.status_code == 202
    expansion = service.context.registry.expansions.get(sent.json()["expansion"]["id"])
    lines = (service.context.settings.home / str(expansion.dataset_path)).read_text().splitlines()
    assert {line["caption"] for line in map(json.loads, lines)} == {f"kernowek {n}" for n in range(70)}
    assert expansion.dataset_bytes == sum(len(line.encode()) + 1 for line in lines)


def test_a_few_rows_may_join_a_language_that_is_taught(service: Service) -> None:
    learn(service.context.registry, "gv", report={"dataset": {"usable": 100}})
    joined = teach(service, "gv", make_few(0, 3), dry_run="true").json()
    assert (joined["waiting"], joined["joined"]) == (None, {"datasets": 1, "rows": 100})
    assert teach(service, "gv", make_few(0, 3), replace="true").json()["waiting"] == {"rows": 3, "needed": 64}
    assert teach(service, "gv", make_few(0, 3)).status_code == 202
