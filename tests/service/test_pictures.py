"""Uploaded pictures: which are refused, and what happens with the valid ones."""

import io
import json
import random

import httpx
import pytest
from PIL import Image, PngImagePlugin

from store.errors import UnsupportedPictureFormat
from tests.model.pictures.test_pictures import MODES, REFUSED, drawing, saved
from tests.service.harness import Service, assert_problem, assert_state_unchanged, picture


def post(service: Service, data: bytes, **more: str) -> httpx.Response:
    return service.admin.post("/v1/pictures", files={"picture": ("x.jpg", data, "image/jpeg")}, data=more)


@pytest.mark.row("P1", "P3", "P4", "P5", "P6")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_for_us_is_refused_whatever_its_name_says(service: Service, name: str) -> None:
    data, error = REFUSED[name]
    with assert_state_unchanged(service):
        assert_problem(post(service, data), 415 if error is UnsupportedPictureFormat else 422, error.code)


@pytest.mark.row("P7")
@pytest.mark.parametrize("mode", MODES)
def test_every_way_to_store_colours_is_read(service: Service, mode: str) -> None:
    answer = service.put(f"mode-{mode}", MODES[mode]).json()
    assert (answer["width"], answer["height"]) in {(96, 64), (64, 64)}


@pytest.mark.row("P8")
def test_what_is_stored_holds_neither_metadata_nor_appended_bytes(service: Service) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"  # GPS
    text = PngImagePlugin.PngInfo()
    text.add_text("secret", "where I live")
    for data in (
        saved(drawing(), "JPEG", exif=exif, comment=b"where I live", icc_profile=b"where I live"),
        saved(drawing(), "PNG", exif=exif, pnginfo=text),
        saved(drawing(), "WEBP", exif=exif, xmp=b"where I live"),
    ):
        assert service.put("clean", data + b"<script>where I live</script>").is_success
        for path in ("content", "thumbnail"):
            stored = service.admin.get(f"/v1/pictures/clean/{path}")
            assert stored.headers["content-type"] == "image/jpeg"
            assert b"where I live" not in stored.content and b"EXIF" not in stored.content
            assert not set(Image.open(io.BytesIO(stored.content)).info) & {"exif", "icc_profile", "xmp"}


@pytest.mark.row("P9")
def test_the_same_bytes_get_the_same_id(service: Service) -> None:
    data = picture(99)
    first = post(service, data, captions=json.dumps({"en": ["the same"]}))
    assert first.status_code == 201
    for again in ({}, {"captions": json.dumps({"en": ["the same"]})}):
        with assert_state_unchanged(service):
            second = post(service, data, **again)
        assert second.status_code == 200
        assert second.json() == first.json()


def test_the_same_bytes_under_other_captions_change_these(service: Service) -> None:
    data = picture(98)
    assert post(service, data, captions=json.dumps({"en": ["one", "two"]})).status_code == 201
    assert post(service, data, captions=json.dumps({"en": ["two", "one"]})).json()["captions"]["en"] == ["two", "one"]
    assert post(service, data, captions="{}").json()["captions"] == {}


@pytest.mark.row("P10")
@pytest.mark.parametrize("chunked", [False, True])
def test_a_picture_above_the_limit_is_refused(service: Service, chunked: bool) -> None:
    limit = service.context.settings.picture_bytes
    boundary = "b" * 20
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="picture"; filename="x"\r\n\r\n'.encode()
    body = head + bytes(limit + 1) + f"\r\n--{boundary}--\r\n".encode()
    content = (body[start : start + (1 << 20)] for start in range(0, len(body), 1 << 20)) if chunked else body
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    with assert_state_unchanged(service):
        answer = service.admin.post("/v1/pictures", content=content, headers=headers)
        assert "50 MB (PICTOGLOT_PICTURE_BYTES)" in assert_problem(answer, 413, "body_too_large")["detail"]


@pytest.mark.row("P12")
def test_mutated_pictures_are_accepted_or_refused_but_never_fail(service: Service) -> None:  # 10 000: tests/fuzz
    random_source = random.Random(1)
    originals = [picture(60, format=format) for format in ("PNG", "JPEG", "WEBP")]
    for _ in range(150):
        data = bytearray(random_source.choice(originals))
        for _ in range(random_source.randint(1, 10)):
            data[random_source.randrange(len(data))] = random_source.randrange(256)
        assert post(service, bytes(data)).status_code in {200, 201, 413, 415, 422}


@pytest.mark.row("P13")
@pytest.mark.parametrize("name", ["../../x", "a" * 10_000, "a\0b", "\u202egnp.exe"])
def test_a_file_name_has_no_effect(service: Service, name: str) -> None:
    disposition = f'form-data; name="picture"; filename="{name}"'.encode()
    body = b"--b\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + picture(70) + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = service.admin.put("/v1/pictures/named", content=body, headers=headers)
    assert answer.status_code in {200, 201}, answer.text
    assert answer.json()["id"] == "named"


@pytest.mark.row("P14")
@pytest.mark.parametrize("field", ["picture_url", "url", "image"])
def test_there_is_no_way_to_make_the_server_fetch(service: Service, field: str) -> None:
    with assert_state_unchanged(service):
        assert_problem(post(service, picture(), **{field: "http://127.0.0.1:1/x.png"}), 422, "invalid_request")


WRONG_CAPTIONS = {
    "language_tag_invalid": ('{"xx": ["?"]}', '{"de": ["ok"], "und": ["?"]}'),
    "malformed_json": ("a red car", "{"),
    "invalid_request": ("[]", '{"en": "a"}', '{"en": [1]}', '{"en": ["a"], "en": ["b"]}', "null"),
}


@pytest.mark.parametrize(("code", "text"), [(code, text) for code in WRONG_CAPTIONS for text in WRONG_CAPTIONS[code]])
def test_captions_that_cannot_be_read_are_refused_and_json_that_is_none_with_its_field(
    service: Service, code: str, text: str
) -> None:
    with assert_state_unchanged(service):
        body = assert_problem(post(service, picture(81), captions=text), 400 if code == "malformed_json" else 422, code)
    if code == "malformed_json":
        assert body["errors"] == [{"location": "body.captions", "code": "json"}] and "captions" in body["detail"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        *(("/v1/pictures", field) for field in ("metadata", "captions")),
        *(("/v1/pictures/batch", "records"), ("/v1/search/pictures", "filter")),
    ],
)
def test_a_field_of_a_form_is_left_out_not_null(service: Service, path: str, field: str) -> None:
    with assert_state_unchanged(service):
        answer = service.admin.post(path, files={"picture": ("x", picture(81))}, data={field: "null"})
        body = assert_problem(answer, 422, "invalid_request")
    assert body["errors"] == [{"location": f"body.{field}", "code": "null"}]


def test_a_picture_is_found_when_the_answer_arrives_and_gone_when_it_was_deleted(service: Service) -> None:
    assert service.put("fleeting", picture(90), en=["a fleeting thing"]).status_code == 201
    assert "fleeting" in list_searchable(service)
    captions = service.admin.post("/v1/search/captions", json={"picture": "fleeting", "languages": ["en"]}).json()
    assert "a fleeting thing" in [item["caption"] for item in captions["items"]]
    assert service.admin.delete("/v1/pictures/fleeting").status_code == 204
    assert "fleeting" not in list_searchable(service)
    assert_problem(service.admin.get("/v1/pictures/fleeting"), 404, "picture_not_found")
    assert_problem(service.admin.delete("/v1/pictures/fleeting"), 404, "picture_not_found")


def test_putting_without_captions_keeps_them_and_an_empty_object_removes_them(service: Service) -> None:
    service.put("kept", picture(91), en=["kept words"])
    file = {"picture": ("x", picture(92))}
    assert service.admin.put("/v1/pictures/kept", files=file).json()["captions"] == {"en": ["kept words"]}
    answer = service.admin.put("/v1/pictures/kept", files=file, data={"captions": "{}"})
    assert answer.json()["captions"] == {}


def test_captions_are_cleaned_and_stored_once(service: Service) -> None:
    answer = service.put("tidy", picture(93), en=["a  café", "a café", "a café"])
    assert answer.json()["captions"] == {"en": ["a café"]}


def test_the_gallery_is_listed_page_by_page(service: Service) -> None:
    ids = [item["id"] for item in service.list_all("/v1/pictures", limit=2)]
    assert sorted(ids) == service.context.gallery.list_ids()
    assert_problem(service.admin.get("/v1/pictures", params={"cursor": "x"}), 422, "invalid_cursor")


def test_every_change_of_a_character_of_a_cursor_is_found(service: Service) -> None:
    cursor = service.admin.get("/v1/pictures", params={"limit": 1}).json()["next_cursor"]
    for place, letter in enumerate(cursor[:-1]):  # the last bits of base64 may mean nothing
        changed = f"{cursor[:place]}{'B' if letter == 'A' else 'A'}{cursor[place + 1 :]}"
        assert_problem(service.admin.get("/v1/pictures", params={"cursor": changed}), 422, "invalid_cursor")


def test_content_and_thumbnail_are_cached_by_their_content(service: Service) -> None:
    service.put("cached", picture(94, side=600))
    item = service.admin.get("/v1/pictures/cached").json()
    content = service.admin.get(item["url"])
    assert "immutable" in content.headers["cache-control"]
    assert "immutable" not in service.admin.get("/v1/pictures/cached/content").headers["cache-control"]
    again = service.admin.get(item["url"], headers={"If-None-Match": content.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    thumbnail = service.admin.get("/v1/pictures/cached/thumbnail")
    assert max(Image.open(io.BytesIO(thumbnail.content)).size) == 256
    assert thumbnail.headers["etag"] != content.headers["etag"]


@pytest.mark.row("H13")
def test_ten_thousand_ranges_are_ignored(service: Service) -> None:
    ranges = "bytes=" + "0-0," * 10_000
    assert service.admin.get("/v1/pictures/p0/content", headers={"Range": ranges}).status_code in {200, 416}


def test_captions_of_an_upload_come_limit_by_language(service: Service) -> None:
    answer = service.admin.post(
        "/v1/search/captions",
        files={"picture": ("x", picture(sum(b"p0")))},
        data={"languages": '["de", "en"]', "limit": "1"},
    ).json()
    assert [(item["language"], item["rank"]) for item in answer["items"]] == [("de", 1), ("en", 1)]
    assert set(answer["generations"]) == {"de", "en"}
    commas = service.admin.post(
        "/v1/search/captions", files={"picture": ("x", picture())}, data={"languages": "de,en", "limit": "1"}
    )
    assert [item["language"] for item in commas.json()["items"]] == ["de", "en"]


def test_captions_for_an_unknown_picture_or_language_are_not_found(service: Service) -> None:
    assert_problem(service.admin.post("/v1/search/captions", json={"picture": "nope"}), 404, "picture_not_found")
    body = {"picture": "p0", "languages": ["cy"]}
    assert_problem(service.admin.post("/v1/search/captions", json=body), 404, "language_not_found")


def list_searchable(service: Service) -> list[str]:
    return [item["id"] for item in service.search("anything", language="en", limit=100).json()["items"]]


def test_the_answer_to_a_deletion_has_no_content_and_no_type(service: Service) -> None:
    service.put("brief", picture(95))
    answer = service.admin.delete("/v1/pictures/brief")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-type" not in answer.headers
