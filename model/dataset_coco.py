"""The lists of a COCO document, one entry after another, in the memory of one entry. Does not judge the entries."""

from collections.abc import Iterator
from io import BufferedReader
from typing import Any

import ijson

from model.dataset_file import BYTE_ORDER_MARK, NOT_UTF8, refuse

IMAGES, ANNOTATIONS = "images", "annotations"
MAX_DEPTH = 32  # of lists and objects in one another; the published documents have 5
MAX_VALUES = 100_000  # of one entry; the outline of an object may have some thousand numbers
_CHUNK = 1 << 16  # bytes
_STARTS, _ENDS = frozenset({"start_map", "start_array"}), frozenset({"end_map", "end_array"})
_NOT_WHOLE = 'the file is not a whole COCO captions document, {"images": [...], "annotations": [...]}; get it once more'


def entries(stream: BufferedReader) -> Iterator[tuple[str, Any]]:
    """Yield the name of the list, `images` or `annotations`, and the entry, in the document's order.

    The list of images itself is one with the entry None, so that its place is known where it is empty.

    Raises `DatasetInvalid` for what is no whole JSON document, is not UTF-8 or has no list of annotations.
    """
    depth, key, annotated = 0, "", False
    builder, values = ijson.ObjectBuilder(), 0
    for event, value in _events(stream):
        depth += (event in _STARTS) - (event in _ENDS)
        if depth > MAX_DEPTH:
            refuse("malformed_json", f"lists and objects stand in one another more than {MAX_DEPTH} deep")
        if depth == 1 and event == "map_key":
            key = value
        elif key == ANNOTATIONS and not annotated:
            if event != "start_array":
                refuse(
                    "wrong_columns",
                    'a COCO captions document holds a list: "annotations": [{"image_id": 1, "caption": "roter Apfel"}]',
                )
            annotated = True
        elif key == IMAGES and (depth, event) == (2, "start_array"):
            yield key, None
        elif key in (IMAGES, ANNOTATIONS) and depth > 1 and (depth, event) != (2, "start_array"):
            builder.event(event, value)
            values += 1
            if values > MAX_VALUES:
                refuse("line_too_long", f"an image or annotation may have at most {MAX_VALUES:,} values")
            if depth == 2:  # the entry is complete
                yield key, builder.value
                builder, values = ijson.ObjectBuilder(), 0
    if not annotated:
        refuse("malformed_json", _NOT_WHOLE)


def _events(stream: BufferedReader) -> Iterator[tuple[str, Any]]:
    if stream.peek(len(BYTE_ORDER_MARK)).startswith(BYTE_ORDER_MARK):
        stream.read(len(BYTE_ORDER_MARK))
    try:
        yield from ijson.basic_parse(stream, use_float=True, buf_size=_CHUNK)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
            refuse("not_utf8", NOT_UTF8)
        refuse("malformed_json", _NOT_WHOLE)
