"""A client that openapi-python-client makes of the committed document works against the running service."""

import importlib
import sys
from collections.abc import Iterator
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType

from scripts.openapi import PATH
from tests.service.harness import ADMIN_KEY, Service, picture, running

# The generator has no word for pictures; these are bytes.
BYTES = {"image/jpeg": "application/octet-stream", "image/webp": "application/octet-stream"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as service:
        service.learn("de")
        yield service


@pytest.fixture(scope="module")
def calls(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The generated package: `api(tag, name, **values)` calls a route; `model(name, **values)` makes a body."""
    folder = tmp_path_factory.mktemp("made")
    file = ConfigFile(content_type_overrides=BYTES, post_hooks=[])
    config = Config.from_sources(
        file,
        MetaType.NONE,
        document_source=PATH,
        file_encoding="utf-8",
        overwrite=True,
        output_path=folder / "pictoglot_client",
    )
    faults = generate(config=config)
    assert not faults, [f"{each.header}: {each.detail}" for each in faults]
    sys.path.insert(0, str(folder))
    try:
        models, types = _import("models"), _import("types")
        client = _import("").AuthenticatedClient(base_url=service.url, token=ADMIN_KEY)

        def call(tag: str, name: str, *arguments: object, **values: object) -> Any:
            return _import(f"api.{tag}.{name}").sync(*arguments, client=client, **values)

        yield SimpleNamespace(
            api=call,
            model=lambda name, **values: getattr(models, name)(**values),
            models=models,
            file=lambda data: types.File(BytesIO(data), "x", "image/png"),
            raw=lambda tag, name, *arguments: _import(f"api.{tag}.{name}").sync_detailed(*arguments, client=client),
        )
        client.get_httpx_client().close()
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "pictoglot_client"]:
            del sys.modules[name]


def _import(name: str) -> Any:
    return importlib.import_module(f"pictoglot_client.{name}".rstrip("."))


def test_a_picture_is_put_found_changed_and_deleted(calls: SimpleNamespace) -> None:
    form = calls.model(
        "PictureForm", picture=calls.file(picture(1)), captions='{"de": ["ein Apfel"]}', tags=["fruit", "red"]
    )
    put = calls.api("gallery", "put_picture", "apple", body=form)
    assert (put.id, put.tags, put.captions["de"]) == ("apple", ["fruit", "red"], ["ein Apfel"])

    hits = calls.api("search", "search_pictures", body=calls.model("PictureSearch", text="ein Apfel", language="de"))
    assert [hit.id for hit in hits.items] == ["apple"]
    asked = {"text": "apfel", "mode": "both", "minus": {"text": "x"}}
    batch = calls.models.Searches.from_dict({"searches": [asked]})
    (item,) = calls.api("search", "search_batch", body=batch).items
    assert item.status == 200 and item.answer.items[0].words == 1.0
    assert calls.api("gallery", "list_duplicates").examined == 1

    patch = calls.models.RecordPatch.from_dict({"tags": ["fruit"], "metadata": {"place": "Chur"}})
    changed = calls.api("gallery", "patch_picture", "apple", body=patch, if_match=put.etag)
    assert hasattr(changed, "tags"), changed
    assert (changed.tags, changed.metadata["place"]) == (["fruit"], "Chur")
    stale = calls.api("gallery", "patch_picture", "apple", body=patch, if_match=put.etag)
    assert (stale.status, stale.code) == (412, "record_changed")

    thumbnail = calls.raw("gallery", "picture_thumbnail", "apple")
    assert thumbnail.status_code == 200 and thumbnail.parsed.payload.read() == thumbnail.content != b""
    assert [item.id for item in calls.api("gallery", "list_pictures").items] == ["apple"]
    assert calls.raw("gallery", "delete_picture", "apple").status_code == 204
    assert calls.api("gallery", "get_picture", "apple").code == "picture_not_found"


def test_languages_releases_and_readiness_are_read(calls: SimpleNamespace) -> None:
    languages = calls.api("languages", "list_languages")
    assert "de" in [item.language for item in languages.items]
    assert calls.api("versions", "get_version", 1).number == 1
    plan = calls.api("admin", "roll_back", "de", body=calls.model("RollbackRequest", dry_run=True))
    assert plan.from_version == 1
    assert calls.api("operations", "ready").status == "ready"


def test_a_refusal_is_a_problem_with_a_code(calls: SimpleNamespace) -> None:
    refused = calls.api("search", "search_pictures", body=calls.model("PictureSearch", text="x", language="xx-nope"))
    assert isinstance(refused, calls.models.Problem) and refused.code == "language_tag_invalid"
