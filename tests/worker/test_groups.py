"""The whole life of a data root on a base of each group: taught, searched, rolled back, restarted, moved, and back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from service.app import open_encoder
from service.settings import Settings
from store.errors import PictoglotError
from store.registry import open_registry
from tests.groups import GROUPS, write_base
from tests.service.harness import Service, assert_problem, picture, running, wait_until
from tests.worker.harness import pairs
from worker.attempt import Attempt
from worker.child import run
from worker.settings import WorkerSettings

PICTURES = 12
MANY = ("siglip2", "worldwide")  # read languages that nobody taught
RING = dict(zip(GROUPS, [*GROUPS][1:] + [*GROUPS][:1], strict=True))  # each is moved to the next
TEXTS = {"en": "a red apple", "cy": "afal der", "br": "aval neerg !"}


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {group: write_base(tmp_path_factory.mktemp(group), name) for group, name in GROUPS.items()}


@contextmanager
def serving(home: Path, base: str, **more: Any) -> Iterator[Service]:
    """The real service on the base that serves here; torch opens sooner than a compiled tower."""
    settings = Settings(home=home, base=base, backend="torch", free_bytes=0)
    with running(home, open_encoder(settings), base=base, backend="torch", **more) as service:
        yield service


def work(service: Service, asked: dict[str, Any], ends: str = "succeeded", **more: Any) -> None:
    """What a worker does with the expansion that the service has just queued; the service has then followed."""
    own: dict[str, Any] = {"home": service.home, "base": service.context.settings.base, "backend": "torch"}
    settings = WorkerSettings(**{**own, "min_recall": 0.0, "forgetting_budget": 1.0, **more})
    registry = open_registry(settings.database)
    lease = registry.expansions.take_lease(asked["expansion"]["id"], "test:1", 600)
    assert lease is not None
    attempt = Attempt(settings, registry, lease, Event())
    try:
        run(attempt)
    except PictoglotError as error:
        attempt.fail(error)
    done = registry.expansions.get(lease.expansion)
    assert done.state == ends, done
    registry.close()
    if done.release is not None:
        wait_until(lambda: service.context.live.current.release.number == done.release)


def teach(service: Service, language: str) -> None:
    """A toy language from captions of the pictures, as a person would post it."""
    send(service, language, [{**row, "picture": f"p{number % PICTURES}"} for number, row in enumerate(pairs(language))])


def send(service: Service, language: str, rows: list[dict[str, Any]], **more: str) -> None:
    """Send a dataset, and do the worker's part."""
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    settings = {"epochs": 4, "vocabulary": 300}
    form = {"language": language, "force": "true", "confirmed": "true", "settings": json.dumps(settings), **more}
    answer = service.admin.post("/v1/languages", data=form, files={"dataset": ("x.jsonl", lines)})
    assert answer.status_code == 202, answer.text
    work(service, answer.json())


def answers(service: Service, *languages: str) -> dict[str, Any]:
    """All that a user can see of these languages, to the last bit: vectors, pictures found, captions of a picture."""
    seen: dict[str, Any] = {}
    for language in languages:
        said = {"input": TEXTS[language], "language": language, "encoding_format": "base64"}
        seen[language] = service.admin.post("/v1/embeddings", json=said).json()["data"][0]["embedding"]
        items = service.search(TEXTS[language], language=language, limit=PICTURES).json()["items"]
        seen[f"{language} pictures"] = [(hit["id"], hit["score"]) for hit in items]
        asked = {"picture": "p3", "languages": [language], "limit": 4}
        items = service.admin.post("/v1/search/captions", json=asked).json()["items"]
        seen[f"{language} captions"] = [(hit["caption"], hit["picture"], hit["score"]) for hit in items]
        assert len(seen[f"{language} pictures"]) == PICTURES and len(seen[f"{language} captions"]) == 4
    return seen


# of each kind one in every run: a base that reads English, and one that reads many languages
@pytest.mark.parametrize(
    "group",
    [group if group in ("clip", "siglip2") else pytest.param(group, marks=pytest.mark.nightly) for group in GROUPS],
)
def test_a_base_is_taught_searched_rolled_back_restarted_and_moved(
    group: str, specs: dict[str, str], tmp_path: Path
) -> None:
    base, other = specs[group], specs[RING[group]]
    with serving(tmp_path, base) as service:
        for number in range(PICTURES):
            assert service.put(f"p{number}", picture(number), en=[f"thing {number}"]).status_code == 201
        english = answers(service, "en")
        teach(service, "cy")
        welsh = answers(service, "cy")
        assert answers(service, "en") == english and welsh["cy"] != english["en"]
        teach(service, "br")
        breton = answers(service, "br")
        assert answers(service, "en", "cy") == english | welsh, "a further language changes no bit of another"
        assert service.admin.post("/v1/admin/languages/br/rollback", json={}).status_code == 200
        assert answers(service, "en", "cy") == english | welsh
        gone = service.search(TEXTS["br"], language="br")
        if group in MANY:
            assert (gone.json()["version"], gone.json()["warnings"]) == (0, ["language_not_taught"])
        else:
            assert_problem(gone, 404, "language_not_found")
        rolled = service.context.live.current.release.number
        restored = service.admin.post(f"/v1/admin/releases/{rolled - 1}/restore", json={"expected": rolled})
        assert restored.status_code == 200, restored.text

    with serving(tmp_path, base) as service:
        assert answers(service, "en", "cy", "br") == english | welsh | breton, "a restart changes no bit"
        asked = service.admin.post("/v1/admin/base", json={"base": other, "force": True})
        assert asked.status_code == 202, asked.text
        work(service, asked.json())
        wait_until(lambda: service.context.encoder.base_view.version != 0)
        moved = answers(service, "en", "cy", "br")
        assert all(moved[tag] != {**english, **welsh, **breton}[tag] for tag in TEXTS)
        assert service.admin.post("/v1/admin/base/undo", json={}).status_code == 200
        wait_until(lambda: service.context.encoder.base_view.version == 0)
        assert answers(service, "en", "cy", "br") == english | welsh | breton, "nor does a move and the way back"
