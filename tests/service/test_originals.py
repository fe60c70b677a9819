"""The bytes as they were sent: kept when the setting says so, given as a file to save, gone with the picture."""

from pathlib import Path

import pytest
from pillow_heif import register_heif_opener

from index.janitor import sweep
from service.commands.doctor import Checkup
from store.objects import ObjectStore
from tests.service.harness import Service, assert_problem, picture, running, share_service

register_heif_opener(thumbnails=False)
FORMATS = ("jpeg", "png", "webp", "avif", "tiff", "heic")


service = share_service(keep_originals=True)


def list_originals(home: Path) -> list[Path]:
    return sorted(home.rglob("*.original"))


@pytest.mark.parametrize("format", FORMATS)
def test_the_bytes_come_back_as_they_were_sent_and_cannot_run(service: Service, format: str) -> None:
    drawn = picture(FORMATS.index(format), format="HEIF" if format == "heic" else format)
    data = drawn + b"<script>and what else was in the file</script>"
    assert service.put(f"kinds/{format}", data).status_code == 201
    url = f"/v1/pictures/kinds%2F{format}/original"
    answer = service.admin.get(url)
    assert answer.content == data and answer.headers["content-type"] == f"image/{format}"
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
    known = service.admin.get(url, headers={"If-None-Match": answer.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    content = service.admin.get(url.replace("/original", "/content"))
    assert content.headers["etag"] != answer.headers["etag"] and content.headers["content-type"] == "image/jpeg"
    assert service.admin.head(url).headers["content-length"] == str(len(data))


def test_an_original_is_there_as_long_as_a_picture_has_its_bytes(service: Service) -> None:
    service.put("one", picture(30))
    service.put("two", picture(30))
    before = list_originals(service.home)
    assert service.admin.delete("/v1/pictures/one").status_code == 204
    assert service.admin.get("/v1/pictures/two/original").content == picture(30)
    assert service.put("two", picture(31)).status_code == 200
    assert service.admin.get("/v1/pictures/two/original").content == picture(31)
    assert service.admin.delete("/v1/pictures/two").status_code == 204
    sweep(service.context.live.sets, kept_seconds=0)
    assert len(list_originals(service.home)) == len(before) - 1
    assert_problem(service.admin.get("/v1/pictures/two/original"), 404, "picture_not_found")


def test_without_the_setting_nothing_is_kept_until_the_same_bytes_come_with_it(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        assert service.put("a", picture(1)).status_code == 201
        assert_problem(service.admin.get("/v1/pictures/a/original"), 404, "original_not_kept")
        assert list_originals(tmp_path) == []
        assert "originals" not in str(Checkup(service.context.settings).check("data root"))
    with running(tmp_path, keep_originals=True) as service:
        assert service.put("a", picture(1)).status_code == 200
        assert service.admin.get("/v1/pictures/a/original").content == picture(1)
        assert "of kept originals" in str(Checkup(service.context.settings).check("data root"))
    with running(tmp_path) as service:  # what is kept stays
        assert service.admin.get("/v1/pictures/a/original").content == picture(1)


def test_an_original_that_was_kept_of_another_picture_is_not_told(tmp_path: Path) -> None:
    with running(tmp_path, keep_originals=True) as service:
        assert service.put("theirs", picture(1)).status_code == 201
    with running(tmp_path) as service:
        assert service.put("mine", picture(1)).status_code == 201
        assert service.admin.get("/v1/pictures/theirs/original").status_code == 200
        assert_problem(service.admin.get("/v1/pictures/mine/original"), 404, "original_not_kept")
        assert service.put("theirs", picture(2)).status_code == 200  # of the new bytes none is kept
        assert_problem(service.admin.get("/v1/pictures/theirs/original"), 404, "original_not_kept")


def test_another_machine_gets_the_original_from_the_store(store: str, tmp_path: Path) -> None:
    settings = {"store": store, "database_url": f"sqlite:///{tmp_path / 'registry.db'}", "keep_originals": True}
    with running(tmp_path / "here", **settings) as first, running(tmp_path / "there", **settings) as second:
        assert first.put("a", picture(1)).status_code == 201
        second.context.live.refresh()
        assert second.admin.get("/v1/pictures/a/original").content == picture(1)
        assert any("original" in name for name in ObjectStore(store).list_keys(""))
        assert first.admin.delete("/v1/pictures/a").status_code == 204
        sweep(first.context.live.sets, kept_seconds=0)
        assert not any("original" in name for name in ObjectStore(store).list_keys(""))
        assert_problem(second.admin.get("/v1/pictures/a/original"), 404, "picture_not_found")
