"""The metrics that an operator's alarms stand on: which there are, also while nothing is wrong, and what they tell."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from sqlalchemy import text

from index.damage import Damage, Report, keep
from tests.house.source import ROOT
from tests.service.harness import Service, running

STATES = {"queued", "running", "succeeded", "failed", "cancelled"}
CODES = {"draining", "encoder_stopped", "index_unavailable", "registry_unavailable", "storage_full", "writes_refused"}
SENTENCES = {"encoding", "unsealed", "snapshot", "damaged"}


def scraped(service: Service) -> list[Sample]:
    families = text_string_to_metric_families(service.admin.get("/metrics").text)
    return [sample for family in families for sample in family.samples]


def values(service: Service, name: str, label: str = "") -> Any:
    """The value of a metric, or its values by a label."""
    found = {sample.labels.get(label, ""): sample.value for sample in scraped(service) if sample.name == name}
    return found if label else found[""]


def unknown(expressions: Iterable[str], samples: list[Sample]) -> set[str]:
    """What rules name and no sample has: metrics, and values of labels."""
    known = {sample.name for sample in samples}
    known |= {f'{name}="{value}"' for sample in samples for name, value in sample.labels.items()}
    named = re.compile(r'pictoglot_\w+|\b\w+="[^"]*"')
    return {name for rule in expressions for name in named.findall(rule)} - known - {'job="pictoglot"'}


def test_the_rules_and_the_table_of_the_documents_name_what_there_is(service: Service) -> None:
    service.search("a dog")
    samples = scraped(service)
    content = yaml.safe_load((ROOT / "docs/deploy/alerts.yml").read_text(encoding="utf-8"))
    rules = [rule for group in content["groups"] for rule in group["rules"]]
    assert len(rules) >= 6 and all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)
    # what a rule excludes is not what it looks for, but has to exist as well
    assert unknown((rule["expr"].replace("!=", "=") for rule in rules), samples) == set()
    made_up = ['pictoglot_colour{code="red"} > 0 or pictoglot_expansions{state="failed"} > 0']
    assert unknown(made_up, samples) == {"pictoglot_colour", 'code="red"'}
    guide = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    table = guide.partition("### Metrics")[2].partition("\nEach process")[0]
    documented = {name for row in table.splitlines() for name in re.findall(r"`(pictoglot_\w+)`", row.split(" | ")[0])}
    names = {sample.name for sample in samples if not sample.name.endswith("_created")}
    assert documented == {re.sub("_(bucket|count|sum)$", "", name) for name in names}


def test_all_is_there_before_anything_is_wrong_and_a_lost_worker_is_seen(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        assert values(service, "pictoglot_expansions", "state") == dict.fromkeys(STATES, 0)
        assert values(service, "pictoglot_degraded", "code") == dict.fromkeys(CODES | SENTENCES, 0)
        assert values(service, "pictoglot_registry_up") == 1
        assert values(service, "pictoglot_free_bytes") > 0
        assert values(service, "pictoglot_unsealed_changes") == 0
        service.put("a")
        assert values(service, "pictoglot_unsealed_changes") == 1
        registry = service.context.registry
        expansion, _ = registry.expansions.submit(kind="learn", language="cy", settings={}, actor="admin")
        assert registry.expansions.lease(expansion.id, "a worker") is not None
        assert values(service, "pictoglot_expansions_abandoned") == 0
        with registry.begin() as session:  # it was killed, some time ago
            session.execute(text("UPDATE expansions SET lease_expires = lease_expires - 90"))
        assert values(service, "pictoglot_expansions", "state") == dict.fromkeys(STATES, 0) | {"running": 1}
        assert values(service, "pictoglot_expansions_abandoned") == 1
        assert values(service, "pictoglot_longest_wait_seconds") == pytest.approx(60, abs=10)


def test_what_readyz_says_is_in_the_metrics(tmp_path: Path) -> None:
    with running(tmp_path, free_bytes=1 << 60) as service:
        assert service.http.get("/readyz").json()["degraded"] == ["storage_full"]
        assert {code for code, is_so in values(service, "pictoglot_degraded", "code").items() if is_so} == {
            "storage_full"
        }
        (tmp_path / "registry.db").rename(tmp_path / "registry.away")
        (tmp_path / "registry.db").mkdir()
        service.context.registry.close()
        assert service.http.get("/readyz").json()["degraded"] == ["registry_unavailable", "storage_full"]
        assert {code for code, is_so in values(service, "pictoglot_degraded", "code").items() if is_so} == {
            "registry_unavailable",
            "storage_full",
        }
        assert values(service, "pictoglot_registry_up") == 0
        assert values(service, "pictoglot_expansions", "state") == {}


@pytest.mark.row("F4")
def test_what_a_scrub_could_not_mend_is_told_by_readyz_and_counted(tmp_path: Path) -> None:
    report = Report(10.0, 20.0, 9, 900)
    for each in (Damage("picture", "a.jpg"), Damage("picture", "b.jpg"), Damage("segment", "c", "from the registry")):
        report.add(each)
    with running(tmp_path) as service:
        keep(service.context.root, report)
        (sentence,) = service.admin.get("/readyz").json()["degraded"]
        assert "2 pictures" in sentence and "segment" not in sentence
        assert service.http.get("/readyz").json()["degraded"] == ["damaged"], "without a key"
        counts = values(service, "pictoglot_damaged", "kind")
        assert {kind: count for kind, count in counts.items() if count} == {"picture": 2}
        assert values(service, "pictoglot_degraded", "code")["damaged"] == 1
        assert [values(service, f"pictoglot_scrub_{name}") for name in ("finished_seconds", "damaged", "mended")] == [
            20, 3, 1,
        ]  # fmt: skip
        keep(service.context.root, Report(30.0, 40.0, 9, 900))
        assert service.admin.get("/readyz").json()["degraded"] == []
