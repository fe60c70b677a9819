"""Uploaded pictures: which are refused, and what happens with the valid ones."""

import io
import json
import os
import random
import signal
import struct
import zlib

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.doubles import make_picture_vector
from tests.service.harness import Service, assert_problem, assert_state_unchanged, motif, picture

PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def make_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_png(width: int, height: int, *extra: bytes) -> bytes:
    """Make a tiny file that claims a size: grey, all zero."""
    rows = zlib.compress(b"\0" * min((width + 1) * height, 1 << 16))
    head = make_chunk(b"IHDR", struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, 8, 0, 0, 0, 0))
    return PNG_HEAD + head + b"".join(extra) + make_chunk(b"IDAT", rows) + make_chunk(b"IEND", b"")


def post(service: Service, data: bytes, **more: str) -> httpx.Response:
    return service.admin.post("/v1/pictures", files={"picture": ("x.jpg", data, "image/jpeg")}, data=more)


@pytest.mark.row("P1")
@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"only text, and more of it than any header has",
        b"<html></html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"PK\x03\x04" + bytes(30),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n",
        b"SIMPLE  =                    T" + b" " * 2850,
        picture(format="GIF"),
        picture(format="BMP"),
    ],
)
def test_another_format_is_refused_whatever_its_name_says(service: Service, data: bytes) -> None:
    with assert_state_unchanged(service):
        assert_problem(post(service, data), 415, "unsupported_picture_format")


@pytest.mark.row("P1")
def test_an_empty_file_is_refused(service: Service) -> None:
    with assert_state_unchanged(service):
        assert_problem(post(service, b""), 422, "picture_corrupt")


@pytest.mark.row("P2")
def test_a_picture_cut_short_is_refused(service: Service) -> None:  # each percent: tests/model/pictures
    data = picture(format="JPEG")
    with assert_state_unchanged(service):
        for share in (10, 50, 90, 98):
            assert_problem(post(service, data[: len(data) * share // 100]), 422, "picture_corrupt")


@pytest.mark.row("P3", "P4")
@pytest.mark.parametrize(
    ("side", "code"),
    [(13_300, "picture_too_many_pixels"), (30_000, "picture_too_many_pixels"), (2**31, "picture_too_many_pixels")],
)
def test_a_decompression_bomb_is_refused_from_its_header(service: Service, side: int, code: str) -> None:
    with assert_state_unchanged(service):
        assert_problem(post(service, make_png(side, side)), 422, code)


@pytest.mark.row("P3")
def test_the_bombs_that_pillow_would_load_have_too_many_pixels(service: Service) -> None:
    assert_problem(post(service, make_png(9_000, 9_000)), 422, "picture_too_many_pixels")


@pytest.mark.row("P5")
@pytest.mark.parametrize(("width", "height"), [(1, 10_000), (15, 15), (2_000, 16)])
def test_odd_dimensions_are_refused(service: Service, width: int, height: int) -> None:
    assert_problem(post(service, make_png(width, height)), 422, "picture_bad_dimensions")


@pytest.mark.row("P6")
def test_a_text_bomb_in_a_picture_is_refused(service: Service) -> None:
    bomb = make_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(64 << 20), 1))
    assert_problem(post(service, make_png(64, 64, bomb)), 422, "picture_corrupt")


@pytest.mark.row("P6")
def test_an_animation_is_refused(service: Service) -> None:
    buffer = io.BytesIO()
    frames = [motif(seed) for seed in range(4)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    assert_problem(post(service, buffer.getvalue()), 422, "picture_animated")


@pytest.mark.row("P7")
@pytest.mark.parametrize("mode", ["CMYK", "I;16", "P", "L", "RGBA", "LA"])
def test_every_way_to_store_colours_is_read(service: Service, mode: str) -> None:
    image = Image.new("I;16", (48, 48), 30_000) if mode == "I;16" else motif(7).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    assert service.put(f"mode-{mode.replace(';', '')}", buffer.getvalue()).status_code in {200, 201}


@pytest.mark.row("P7")
def test_all_rotations_of_a_picture_give_one_vector(service: Service) -> None:
    upright = motif(3)
    turns = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    for orientation, turn in turns.items():
        image = upright if turn is None else upright.transpose(turn)
        exif = Image.Exif()
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95, exif=exif)
        assert service.put(f"turn-{orientation}", buffer.getvalue()).status_code == 201
        vector = service.context.live.current.find_picture_vector(f"turn-{orientation}")
        assert float(np.dot(vector, make_picture_vector(upright))) > 0.99


@pytest.mark.row("P8")
def test_the_stored_picture_keeps_only_the_pixels_of_the_upload(service: Service) -> None:
    exif = Image.Exif()
    exif[0x010E] = "described secretly"
    data = picture(8, format="JPEG", exif=exif) + b"<script>alert(1)</script>"
    assert service.put("clean", data).status_code == 201
    stored = service.admin.get("/v1/pictures/clean/content")
    assert stored.headers["content-type"] == "image/jpeg"
    assert stored.content[:3] == b"\xff\xd8\xff"
    assert b"secretly" not in stored.content
    assert b"script" not in stored.content


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


@pytest.mark.row("P11")
def test_a_killed_decoder_costs_one_picture_and_the_next_is_fine(service: Service) -> None:
    assert service.put("before", picture(50)).status_code == 201
    for pid in service.context.picture_queue.uploads.decoder.pids:
        os.kill(pid, signal.SIGKILL)
    assert service.put("after", picture(51)).status_code in {201, 422}
    assert service.put("after", picture(51)).status_code in {200, 201}


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


def test_an_error_in_the_json_of_captions_names_the_field(service: Service) -> None:
    with assert_state_unchanged(service):
        body = assert_problem(post(service, picture(81), captions="a red car"), 400, "malformed_json")
    assert body["errors"] == [{"location": "body.captions", "code": "json"}]
    assert "captions" in body["detail"]


@pytest.mark.parametrize("captions", ['{"xx": ["?"]}', '{"de": ["ok"], "und": ["?"]}'])
def test_a_caption_in_no_language_is_refused(service: Service, captions: str) -> None:
    with assert_state_unchanged(service):
        assert_problem(post(service, picture(80), captions=captions), 422, "language_tag_invalid")


@pytest.mark.parametrize("captions", ["[]", '{"en": "a"}', '{"en": [1]}', "{", '{"en": ["a"], "en": ["b"]}', "null"])
def test_malformed_captions_are_refused(service: Service, captions: str) -> None:
    with assert_state_unchanged(service):
        answer = post(service, picture(81), captions=captions)
        assert answer.json()["code"] in {"invalid_request", "malformed_json"}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/pictures", "metadata"),
        ("/v1/pictures", "captions"),
        ("/v1/pictures/batch", "records"),
        ("/v1/search/pictures", "filter"),
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
    ids, cursor = [], None
    while True:
        page = service.admin.get("/v1/pictures", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        ids += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
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
