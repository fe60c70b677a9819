"""Pictures of a dataset: named by ids, or by files whose names without suffix are ids; and those that are not there."""

from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from model.dataset import Dataset, read, validate
from model.dataset.rows import find_ids_of_files
from store.errors import DatasetPictureNotFound
from tests.model.test_dataset import jsonl


class Gallery:
    """Ids of pictures, and how often these were asked for."""

    def __init__(self, *ids: str) -> None:
        self.ids, self.asked = frozenset(ids), 0

    def known(self, ids: Sequence[str]) -> Collection[str]:
        self.asked += 1
        return self.ids.intersection(ids)


@pytest.mark.parametrize(
    ("name", "ids", "taken"),
    [
        ("IMG_0001.jpg", ("IMG_0001",), "IMG_0001"),
        ("2019/Chur/IMG 7.HEIC", ("2019/Chur/IMG 7",), "2019/Chur/IMG 7"),
        ("a.b.jpeg", ("a.b", "a"), "a.b"),
        ("a.jpg", ("a", "a.jpg"), None),  # an id as it is written
        ("a.png", ("a.jpg",), None),
        ("a.jpg", ("A",), None),
        ("bridge-1.2", ("bridge-1",), None),  # no file
        ("2019.08", ("2019",), None),
        ("a.jpg/b", ("a",), None),
        (".jpg", ("",), None),
    ],
)
def test_a_file_is_its_picture_where_only_the_name_without_suffix_is_an_id(
    name: str, ids: tuple[str, ...], taken: str | None
) -> None:
    assert find_ids_of_files([name, "other"], Gallery(*ids).known) == ({} if taken is None else {name: taken})


def test_a_gallery_is_not_asked_about_ids() -> None:
    asked = Gallery("a")
    assert find_ids_of_files(["a", "b"], asked.known) == {} and asked.asked == 0


def dataset(folder: Path, names: Sequence[str], ids: Gallery) -> Dataset:
    rows = [{"caption": f"afal {number}", "picture": name} for number, name in enumerate(names)]
    (folder / "upload").write_bytes(jsonl(rows))
    return read(folder / "upload", find_ids=lambda names: find_ids_of_files(names, ids.known))


def test_a_picture_under_two_names_is_one_on_one_side_of_the_split(tmp_path: Path) -> None:
    ids = Gallery(*(f"p{number}" for number in range(40)))
    found = dataset(tmp_path, [f"p{number}{end}" for end in ("", ".jpg", ".JPG") for number in range(40)], ids)
    assert {row.picture for row in found.rows} == ids.ids
    sides = {(row.picture, row.split) for row in found.rows}
    assert len(sides) == 40 and {side for _, side in sides} == {"train", "val"}
    report = validate(found, "cy", ids.known)
    assert (report.rows, report.usable, report.pictures, report.by_file) == (120, 120, 40, 80)


def test_a_row_that_differs_in_how_it_names_the_picture_alone_is_a_repetition(tmp_path: Path) -> None:
    rows = [{"caption": "afal", "picture": name} for name in ("p.jpg", "p", "p.png")]
    (tmp_path / "upload").write_bytes(jsonl(rows))
    report = read(tmp_path / "upload", find_ids=lambda names: find_ids_of_files(names, Gallery("p").known)).report
    assert (report.usable, report.duplicates, report.first_duplicates, report.by_file) == (1, 2, (2, 3), 2)


def test_a_refusal_counts_rows_and_pictures_and_shows_what_ids_look_like(tmp_path: Path) -> None:
    ids = Gallery("there", "p0")
    names = ["there", *(f"p{number % 4}.jpg" for number in range(100))]
    with pytest.raises(DatasetPictureNotFound) as caught:
        validate(dataset(tmp_path, names, ids), "cy", ids.known, some_ids=lambda: ["there", "p0"])
    refused = caught.value
    assert refused.detail == (
        "75 of 101 rows name pictures that are not in the gallery. Ids there look like `there`, `p0`: write them so. "
        "3 pictures missing, first: p1.jpg, p2.jpg, p3.jpg"
    )
    assert refused.extra["count"] == 3
    assert [place.location for place in refused.errors] == [f"line {n}" for n in (3, 4, 5, 7, 8, 9, 11, 12, 13, 15)]
    report = refused.extra["report"]
    assert isinstance(report, dict)
    fault = report["faults"].pop("picture_not_found")
    assert (fault["count"], fault["first_lines"], report["faults"]) == (75, [3, 4, 5, 7, 8], {})
    assert (report["usable"], report["pictures"], report["by_file"]) == (26, 2, 25)
