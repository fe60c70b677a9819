"""What `/readyz` says of the vectors: which encoding made them, why not the fastest, and that others are ready."""

from pathlib import Path

from tests.service.harness import running


def test_readiness_names_the_encoding_and_what_an_operator_should_know_of_it(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        registry = service.app.state.context.registry
        assert (body := service.admin.get("/readyz").json())["encoding"] == "torch in float32"
        assert body["degraded"] == []
        registry.encodings.first("openvino", "float32", "bfloat16 changes the features of this base too much")
        (reason, _) = service.admin.get("/readyz").json()["degraded"]
        assert reason == (
            "bfloat16 changes the features of this base too much; openvino in float32 computes the vectors instead."
        )
        registry.expansions.submit(kind="reencode", language="mul", settings={}, actor="test")
        (expansion,) = registry.expansions.list()
        lease = registry.expansions.lease(expansion.id, "test:1")
        registry.encodings.change("openvino", "bfloat16", lease, 1)
        (waiting,) = service.admin.get("/readyz").json()["degraded"]
        assert "openvino in bfloat16 are complete: a restart serves them" in waiting
        assert service.admin.get(f"/v1/expansions/{expansion.id}").json()["kind"] == "reencode"
