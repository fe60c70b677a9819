"""A release for another base: the service opens it beside what serves, swaps once, mixes nothing, and goes back."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from index.gallery import Gallery
from model.encoder import EncodedTexts, View
from service import watch
from service.context import Context
from service.settings import Settings
from store.bases import FIRST_ENCODING, Encoding
from store.errors import BaseNotFound
from store.registry import Registry
from store.releases import Release
from tests.client.test_admin import lose_answers
from tests.client.test_commands import run, run_json
from tests.doubles import Vectors, WeightlessEncoder, make_view
from tests.service.harness import Service, assert_problem, assert_state_unchanged, picture, running, wait_until
from tests.store import steps
from tests.tiny import write_tiny_base

COUNT = 8
OPENVINO_32 = Encoding("openvino", "float32")


class OtherEncoder(WeightlessEncoder):
    """Another base, as version `root`: the same vectors with their places moved, so that none fits the first base's."""

    image_fingerprint = hashlib.sha256(b"other pictures").hexdigest()
    text_fingerprint = base_fingerprint = hashlib.sha256(b"other texts").hexdigest()

    def __init__(self, root: int) -> None:
        self.base_view = make_view(root)

    def encode_texts(self, items: Sequence[tuple[View, str]], *, alone: bool = False) -> EncodedTexts:
        read = super().encode_texts(items)
        return EncodedTexts(np.roll(read.vectors, 5, axis=1), read.truncated, read.tokens)

    def encode_pictures(self, images: Sequence[Image.Image], batch: int = 64) -> Vectors:
        return np.roll(super().encode_pictures(images), 5, axis=1)


OTHER = ("other", OtherEncoder.image_fingerprint, OtherEncoder.text_fingerprint)


def move_base(registry: Registry) -> Release:
    """Do what a worker does: the languages on the other base, and one release."""
    return steps.move_base(registry, OTHER, {"english": {"against": "pictures", "pairs": COUNT, "t2i": {"R@1": 0.5}}})


@contextmanager
def serve(home: Path, **settings: Any) -> Iterator[tuple[Service, list[str]]]:
    """Run a service with a taught language and pictures; yield also what it was asked to open."""
    asked: list[str] = []

    def reopen(settings: Settings) -> WeightlessEncoder:
        asked.append(settings.base)
        if (home / "away").exists():
            raise BaseNotFound("the weights are not on this machine")
        base = service.context.registry.bases.find_serving()
        assert base is not None
        while (home / "held").exists():
            time.sleep(0.01)
        return WeightlessEncoder() if base.number == 0 else OtherEncoder(base.number)

    with running(home, reopen=reopen, **settings) as service:
        service.learn("de")
        for number in range(COUNT):
            assert service.put(f"p{number}", en=[f"thing {number}"], de=[f"Ding {number}"]).status_code == 201
        try:
            yield service, asked
        finally:
            (home / "held").unlink(missing_ok=True)


def list_answers(service: Service) -> dict[str, Any]:
    """List everything that a user can see of what was found, without times."""
    seen: dict[str, Any] = {}
    for text, language in (("thing 3", "en"), ("Ding 5", "de"), ("anything", "shared")):
        body = service.search(text, language=language, limit=COUNT + 2, mode="meaning").json()
        seen[language] = [(hit["id"], hit["score"], hit["captions"]) for hit in body["items"]]
    body = service.admin.post("/v1/search/captions", json={"picture": "p1", "limit": 3}).json()
    seen["captions"] = [(hit["caption"], hit["language"], hit["score"]) for hit in body["items"]]
    return seen


def search_ids(service: Service, text: str) -> list[str]:
    items = service.search(text, language="en", limit=COUNT, mode="meaning").json()["items"]
    return [hit["id"] for hit in items]


def get_base(service: Service) -> int:
    version: int = service.context.encoder.base_view.version
    return version


def test_another_base_is_opened_served_by_one_swap_and_taken_back_bit_for_bit(tmp_path: Path) -> None:
    with serve(tmp_path) as (service, asked):
        before, first = list_answers(service), service.context
        cursor = service.search("thing 3", limit=2).json()["next_cursor"]
        release = move_base(service.context.registry)
        wait_until(lambda: get_base(service) == release.base)
        ready = service.http.get("/readyz").json()
        assert (ready["release"], ready["base"], ready["degraded"]) == (release.number, "other", [])
        (german, english) = service.admin.get("/v1/languages").json()["items"]
        assert (german["language"], english["language"]) == ("de", "en")
        assert (english["version"], english["report"]["pairs"]) == (release.base, COUNT)
        after = list_answers(service)
        assert after != before and {tag: len(found) for tag, found in after.items()} == {
            tag: len(found) for tag, found in before.items()
        }
        assert_problem(service.search("thing 3", limit=2, cursor=cursor), 410, "cursor_expired")
        wait_until(lambda: not first.text_queue.alive)  # what was replaced is closed
        assert service.put("new", picture(77), en=["new"]).status_code == 201
        assert service.admin.delete("/v1/pictures/p7").status_code == 204
        assert service.admin.post("/v1/admin/languages/de/rollback", json={}).json()["to_version"] is None

        service.context.registry.bases.undo(actor="t", reason="")
        wait_until(lambda: get_base(service) == 0)
        again = list_answers(service)
        # but for what was written meanwhile, the answers are those of before
        kept = {tag: [hit for hit in found if hit[0] != "new"] for tag, found in again.items()}
        gone = {tag: [hit for hit in found if hit[0] != "p7"] for tag, found in before.items()}
        assert {tag: kept[tag] for tag in ("en", "de")} == {tag: gone[tag] for tag in ("en", "de")}
        assert "new" in [hit[0] for hit in again["en"]] and len(asked) == 2


def test_another_encoding_is_opened_without_a_restart(tmp_path: Path) -> None:
    class Encoded(OtherEncoder):
        encoding = OPENVINO_32

    def reopen(_: Settings) -> WeightlessEncoder:
        return Encoded(0) if service.context.registry.encodings.find_current() == OPENVINO_32 else WeightlessEncoder()

    with running(tmp_path, reopen=reopen) as service:
        registry = service.context.registry
        registry.encodings.record_first("torch", "float32")
        service.put("p0", en=["thing 0"])
        steps.move_encoding(registry, OPENVINO_32)
        wait_until(lambda: service.context.encoder.encoding == OPENVINO_32)
        assert search_ids(service, "thing 0") == ["p0"] and get_base(service) == 0
        assert "with vectors made by torch in float32" in run(service, "base", "status").stdout
        assert "serves." in run(service, "base", "undo", "--yes").stdout
        assert service.context.encoder.encoding == FIRST_ENCODING


def test_searches_and_writes_go_on_and_no_answer_is_of_two_bases(tmp_path: Path) -> None:
    with serve(tmp_path) as (service, _):
        expected, seen, failures, done = {}, dict[int, set[str]](), list[str](), threading.Event()
        expected[service.context.live.current.release.number] = list_answers(service)["en"]
        release = service.context.live.current.release.number

        def search() -> None:
            while not done.is_set():
                answer = service.search("thing 3", language="en", limit=COUNT + 2, mode="meaning")
                if answer.status_code != 200:
                    failures.append(answer.text)
                    continue
                body = answer.json()
                hits = [(h["id"], h["score"]) for h in body["items"] if not h["id"].startswith("w")]
                seen.setdefault(body["release"], set()).add(json.dumps(hits))

        def write() -> None:
            for number in range(10_000):
                if done.is_set():
                    return
                name = f"w{number}"
                put = service.put(name, picture(1000 + number), en=[name])
                hits = service.admin.post("/v1/search/captions", json={"picture": name, "limit": 1})
                deleted = service.admin.delete(f"/v1/pictures/{name}")
                gone = service.admin.post("/v1/search/captions", json={"picture": name, "limit": 1})
                statuses = [each.status_code for each in (put, hits, deleted, gone)]
                if statuses != [201, 200, 204, 404]:
                    failures.append(f"{name}: {statuses}")

        threads = [threading.Thread(target=work) for work in (search, search, write)]
        for thread in threads:
            thread.start()
        wait_until(lambda: release in seen)
        after = move_base(service.context.registry)
        wait_until(lambda: after.number in seen)
        service.context.registry.bases.undo(actor="t", reason="")
        wait_until(lambda: after.number + 1 in seen)
        done.set()
        for thread in threads:
            thread.join()
        assert not failures
        # each release gave one answer, and the one before and after the move the same
        assert {number: len(found) for number, found in seen.items()} == {2: 1, 3: 1, 4: 1}
        assert seen[2] == seen[4] != seen[3]


def test_a_base_that_cannot_be_opened_leaves_what_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.watch._RETRY_SECONDS", 0.0)
    with serve(tmp_path) as (service, asked):
        before = list_answers(service)
        (tmp_path / "away").touch()
        release = move_base(service.context.registry)
        wait_until(lambda: len(asked) > 1)
        assert list_answers(service) == before
        degraded = service.admin.get("/readyz").json()["degraded"]
        assert degraded == [
            f"Release {release.number} is for another base, which is not open here.",
            "Release 2 is still served.",
        ]
        # a language that is rolled back on the new base is not served here either
        service.context.registry.releases.roll_back("de", actor="t", reason="")
        wait_until(lambda: service.search("Ding 5", language="de").status_code != 200)
        assert_problem(service.search("Ding 5", language="de"), 404, "language_not_found")
        listed = service.admin.get("/v1/languages").json()["items"]
        assert [item["language"] for item in listed] == ["en"] and len(search_ids(service, "thing 3")) == COUNT
        assert get_base(service) == 0
        (tmp_path / "away").unlink()
        wait_until(lambda: get_base(service) == release.base)


def test_while_another_base_is_opened_the_one_before_follows_all_changes(tmp_path: Path) -> None:
    with serve(tmp_path) as (service, asked):
        (tmp_path / "held").touch()
        release = move_base(service.context.registry)
        wait_until(lambda: asked)
        Gallery(service.context.registry, service.context.root).delete("p3")  # as another process does
        wait_until(lambda: "p3" not in search_ids(service, "thing 3"))
        assert get_base(service) == 0 and len(asked) == 1
        (tmp_path / "held").unlink()
        wait_until(lambda: get_base(service) == release.base)
        assert len(search_ids(service, "thing 3")) == COUNT - 1 and "p3" not in search_ids(service, "thing 3")


def test_a_base_that_serves_no_more_when_it_is_open_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, close = list[Context](), watch._close

    def close_and_note(context: Context) -> None:
        close(context)
        closed.append(context)

    monkeypatch.setattr(watch, "_close", close_and_note)
    with serve(tmp_path) as (service, asked):
        before, first = list_answers(service), service.context
        (tmp_path / "held").touch()
        move_base(first.registry)
        wait_until(lambda: asked)
        first.registry.bases.undo(actor="t", reason="")
        (tmp_path / "held").unlink()
        wait_until(lambda: closed)
        assert [context.base for context in closed] == ["other"] and service.context is first
        assert list_answers(service) == before and service.http.get("/readyz").json()["degraded"] == []


def post_move(service: Service, **body: object) -> httpx.Response:
    return service.admin.post("/v1/admin/base", json=body)


def test_a_move_is_queued_once_and_refused_with_a_reason(tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path)
    with running(tmp_path / "home") as service:
        service.learn("de")
        service.put("a", en=["an apple"])
        with assert_state_unchanged(service):
            for name in (
                "no-such-model/openai",
                "ViT-B-32/no-such-weights",
                "nonsense",
                "roberta-ViT-B-32/laion2b_s12b_b32k",
            ):
                body = assert_problem(post_move(service, base=name), 422, "base_unusable")
                assert str(tmp_path) not in body["detail"]
            assert_problem(post_move(service, base=""), 422, "invalid_request")
            assert_problem(service.admin.post("/v1/admin/base/undo", json={}), 409, "no_earlier_base")
            plan = post_move(service, base=base, dry_run=True)
            assert plan.status_code == 200 and plan.json()["expansion"] is None
        assert (
            plan.json()["languages"] == ["de"] and plan.json()["needed"] > Path(base.partition("@")[2]).stat().st_size
        )
        key = {"Idempotency-Key": "one"}
        answers = [service.admin.post("/v1/admin/base", json={"base": base}, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        expansion = answers[0].json()["expansion"]
        assert answers[0].headers["location"] == f"/v1/expansions/{expansion['id']}"
        assert answers[1].json()["expansion"]["id"] == expansion["id"] and expansion["kind"] == "base"
        assert_problem(post_move(service, base=base), 409, "expansion_in_progress")
        Path(base.partition("@")[2]).unlink()
        again = service.admin.post("/v1/admin/base", json={"base": base}, headers=key)
        assert again.status_code == 202 and again.json()["expansion"]["id"] == expansion["id"]
        status = service.admin.get("/v1/admin/base").json()
        assert (status["version"], status["move"]["state"], status["undo"]) == (0, "queued", None)


def test_an_encoding_that_the_settings_refuse_or_that_serves_is_not_moved_to(tmp_path: Path) -> None:
    with running(tmp_path / "home", backend="torch") as service:
        service.context.registry.encodings.record_first("torch", "float32")
        with assert_state_unchanged(service):
            body = assert_problem(post_move(service, backend="openvino"), 422, "base_unusable")
            assert "PICTOGLOT_BACKEND is torch here" in body["detail"] and "set `auto`" in body["detail"]
            for backend in ("auto", "torch", None):
                assert_problem(post_move(service, backend=backend), 409, "base_serves")


def test_too_little_disk_is_told_with_the_numbers_and_nothing_is_queued(tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path)
    with running(tmp_path / "home", free_bytes=1 << 60) as service, assert_state_unchanged(service):
        body = assert_problem(post_move(service, base=base), 507, "disk_too_small")
        assert body["needed"] > 0 and body["free"] == 0 and "MB of disk" in body["detail"]


def test_the_commands_tell_what_serves_and_lead_back_and_forth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(tmp_path / "home") as (service, _):
        service.context.registry.initialise(
            service.context.encoder.base_fingerprint, "first@/somewhere/first.safetensors"
        )
        release = move_base(service.context.registry)
        wait_until(lambda: get_base(service) == release.base)
        output = run(service, "base", "status").stdout
        assert f"Base other serves, as version {release.base} in release {release.number}." in output
        assert "goes back to first, as release 2 had it" in output and "somewhere" not in output
        assert_problem(post_move(service, base="other"), 409, "base_serves")
        service.learn("cy")
        plan = run_json(service, "base", "undo", "--dry-run")
        assert (plan["to_base"], plan["lost"], plan["changed"]) == ("first", ["cy"], ["de"])
        stale = {"expected": release.number}
        assert_problem(service.admin.post("/v1/admin/base/undo", json=stale), 409, "alias_moved")
        done = run(service, "base", "undo", "--reason", "worse")
        assert done.exit_code == 0 and "no longer served: cy" in done.stdout and "serves." in done.stdout
        assert get_base(service) == 0
        newest = service.admin.get("/v1/admin/releases").json()["items"][0]
        assert (newest["change"]["restored"], newest["change"]["to"], newest["reason"]) == (2, "first", "worse")
        (act,) = service.admin.get("/v1/admin/audit?act=POST+/v1/admin/base/undo").json()["items"]
        assert act["actor"] == "admin" and f"release {newest['number']}" in act["targets"]
        sent = lose_answers(monkeypatch, 1, "undo")
        result = run(service, "base", "undo", "--yes")
        assert (result.exit_code, len(sent)) == (1, 2)  # the second is refused, since the first was done
        assert "not known whether this was done" in result.stderr and "Nothing was changed" not in result.stderr
        wait_until(lambda: get_base(service) == release.base)
