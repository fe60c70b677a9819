"""`POST /v1/admin/base` and `pictoglot base`: what is refused, what is shown, and the way back."""

from pathlib import Path

import httpx

from tests.client.test_commands import run, run_json
from tests.service.harness import Service, assert_problem, assert_state_unchanged, running, wait_until
from tests.service.test_moving import get_base, move_base, serve
from tests.tiny import write_tiny_base


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


def test_the_commands_tell_what_serves_and_lead_back_and_forth(tmp_path: Path) -> None:
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
        run(service, "base", "undo", "--yes")
        assert get_base(service) == release.base
