"""The paper's data on a disk: COCO with its translations, XM3600, or a folder of the user (docs/measured.md).

Captions are read as the service reads datasets; rows that it would leave out are left out here, with a message.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.files import ENGLISH, FileData, Said, Side, choose_languages
from benchmarks.emoji36.lexicon import LANGUAGES
from model import dataset
from model.dataset.formats import RowFault, read_records
from model.dataset.rows import Row
from model.encoder import Encoder
from model.languages import canonicalize
from model.text import clean
from store.errors import InvalidInput, LanguageTagInvalid, PictoglotError

Tell = Callable[[str], None]
Layout = Literal["coco", "xm3600", "folder"]
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_TRAINING, _TEST = ("train", "restval"), ("test",)  # Karpathy's splits; `val` is not used


class _Image(NamedTuple):
    """One entry of Karpathy's file."""

    number: str  # COCO's own id of the picture
    path: Path
    split: str
    captions: list[str]


def open_data(
    layout: Layout,
    encoder: Encoder,
    root: Path,
    cache_folder: Path,
    tell: Tell,
    *,
    train_root: Path | None = None,
    languages: str | None = None,
) -> FileData:
    """Return the `languages` of the data below `root`; raises `Refused` for what is missing or unreadable.

    `train_root` holds COCO, the training data for the test XM3600.
    """
    if train_root is not None and layout != "xm3600":
        raise Refused("--train-root: only for --data xm3600, which has no training data of its own")
    files = _list_dataset_files(root / "captions") if layout == "folder" else dict.fromkeys(LANGUAGES, root)
    tags = choose_languages(languages, list(files))
    if layout == "coco":
        images = _read_karpathy(root)
        training, test = _read_coco_training(images, root, tags, tell), _read_coco_test(images, root, tags, tell)
    elif layout == "folder":
        training, test = _split_rows({tag: files[tag] for tag in tags}, root, tell)
    elif train_root is not None:
        training = _read_coco_training(_read_karpathy(train_root), train_root, tags, tell)
        test = _read_xm3600_test(root, tags, tell)
    else:
        tell("without --train-root, XM3600 is split into training and test: not comparable with the paper")
        training, test = _split_rows(dict.fromkeys(tags, root / "captions.jsonl"), root, tell)
    return FileData(encoder, tags, training, test, cache_folder)


def _read_karpathy(root: Path) -> list[_Image]:
    path = root / "dataset_coco.json"
    try:
        document = json.loads(_require_path(path).read_bytes())
    except ValueError as error:
        raise Refused(f"{path}: this is no JSON document") from error
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list):
        raise Refused(f"{path}: there is no list `images`")
    entries = []
    for place, image in enumerate(images):
        try:
            captions = [caption for each in image["sentences"] if (caption := _clean(each["raw"])) is not None]
            file = root / image["filepath"] / image["filename"]
            entries.append(_Image(str(image["cocoid"]), file, image["split"], captions))
        except KeyError as error:
            raise Refused(f"{path}, image {place}: there is no `{error.args[0]}`") from error
        except TypeError as error:
            raise Refused(f"{path}, image {place}: this is not the format of Karpathy's file") from error
    for splits in (_TRAINING, _TEST):
        if not any(image.split in splits and image.captions for image in entries):
            raise Refused(f"{path}: no image with a caption has the split `{splits[0]}`")
    return entries


def _read_coco_training(images: Sequence[_Image], root: Path, languages: Sequence[str], tell: Tell) -> Side:
    """Return pairs are matched by their English text, in any order; they are read when their language is trained."""
    shown = [image for image in images if image.split in _TRAINING]
    folder = root / "corpus" / "multilingual_coco" / "36langs"
    paths = {tag: _require_path(folder / f"coco_en-{tag}.tsv.gz") for tag in languages if tag != ENGLISH}
    english = [(image.path.stem, caption) for image in shown for caption in image.captions]

    def said(language: str) -> list[Said]:
        if language == ENGLISH:
            return [Said(caption, name, caption) for name, caption in english]
        pairs = _read_pairs(paths[language], language)
        translated = [Said(pairs[caption], name, caption) for name, caption in english if caption in pairs]
        if not translated:
            raise Refused(f"{paths[language]}: no line begins with a training caption of dataset_coco.json")
        if len(translated) < len(english):
            tell(f"{language}: {len(translated):,} of {len(english):,} training captions are translated")
        return translated

    return Side({image.path.stem: image.path for image in shown}, said, [root / "dataset_coco.json", *paths.values()])


def _read_pairs(path: Path, language: str) -> dict[str, str]:
    """Return the first translation of each English text."""
    try:
        read = dataset.read(path)
    except PictoglotError as error:
        raise _describe_refusal(path, error, language) from error
    if read.report.format != "parallel":
        raise Refused(f"{path}: the lines are not of the form `english<TAB>translation`")
    return {row.english: row.caption for row in reversed(read.rows) if row.english is not None}


def _read_coco_test(images: Sequence[_Image], root: Path, languages: Sequence[str], tell: Tell) -> Side:
    shown = [image for image in images if image.split in _TEST]
    folder = root / "annotations" / "coco" / "translated"
    paths = {tag: folder / tag / "test_gt.json" for tag in languages if tag != ENGLISH}
    names = {key: image.path.stem for image in shown for key in (image.number, image.path.stem)}
    said = {tag: _list_captions(path, "coco", tag, names, tell) for tag, path in paths.items()}
    said[ENGLISH] = [Said(caption, image.path.stem) for image in shown for caption in image.captions]
    for tag in paths:
        if len(said[tag]) != len(said[ENGLISH]):
            tell(f"{tag}: {len(said[tag]):,} test captions where English has {len(said[ENGLISH]):,}")
    pictures = {image.path.stem: image.path for image in shown}
    return Side(pictures, said.__getitem__, [root / "dataset_coco.json", *paths.values()])


def _read_xm3600_test(root: Path, languages: Sequence[str], tell: Tell) -> Side:
    images, path = _list_pictures(root / "images"), root / "captions.jsonl"
    said = {tag: _list_captions(path, "xm3600", tag, {name: name for name in images}, tell) for tag in languages}
    return Side(_list_shown(said, images), said.__getitem__, [path])


def _list_captions(path: Path, form: str, language: str, names: Mapping[str, str], tell: Tell) -> list[Said]:
    """Return every caption of a test, repeated ones too; `names` maps the names in the file to the pictures."""
    captions, left_out = [], []
    try:
        read, rows = read_records(_require_path(path), language=language)
        if read != form:
            raise Refused(f"{path}: this is not in the {form} format")
        for row in rows:
            caption = None if isinstance(row, RowFault) else _clean(row.caption)
            if caption is None or isinstance(row, RowFault):
                left_out.append(row.line)
            elif str(row.picture) in names:
                captions.append(Said(caption, names[str(row.picture)]))
            else:
                raise Refused(f"{path}, line {row.line}: the picture {row.picture} is not in the test's pictures")
    except PictoglotError as error:
        raise _describe_refusal(path, error, language) from error
    if not captions:
        raise Refused(f"{path}: there is no caption in {language}")
    if left_out:
        tell(f"{path.name}, {language}: {len(left_out)} captions left out, the first at line {left_out[0]}")
    return captions


def _split_rows(files: Mapping[str, Path], root: Path, tell: Tell) -> tuple[Side, Side]:
    """Return rows of the split `train` are for training, those of `val` that have a picture for the test."""
    images = _list_pictures(root / "images")
    rows = {tag: _check_rows(path, tag, images, tell) for tag, path in files.items()}

    def side(split: str) -> Side:
        said = {
            tag: [Said(row.caption, row.picture, row.english) for row in rows[tag] if row.split == split]
            for tag in files
        }
        return Side(_list_shown(said, images), said.__getitem__, [*files.values()])

    test = side("val")
    for tag, path in files.items():
        if all(each.picture is None for each in test.said(tag)):
            raise Refused(f"{path}: no row of the split `val` names a picture, so there is no test in {tag}")
    return side("train"), test


def _check_rows(path: Path, language: str, images: Mapping[str, Path], tell: Tell) -> Sequence[Row]:
    """Return the rows of a file that the service would accept."""
    try:
        read = dataset.read(_require_path(path), language=language)
        report = dataset.validate(read, language, lambda named: set(named) & set(images))
    except PictoglotError as error:
        raise _describe_refusal(path, error, language) from error
    if report.usable < report.rows:
        tell(f"{path.name}, {language}: {report.rows - report.usable} of {report.rows} rows left out")
    return read.rows


def _list_dataset_files(folder: Path) -> dict[str, Path]:
    """Return one file a language, named by its tag; in the paper's order, then by tag."""
    files: dict[str, Path] = {}
    for path in sorted(_require_path(folder, "folder").iterdir()):
        if path.is_file() and not path.name.startswith("."):
            try:
                tag = canonicalize(path.name.partition(".")[0])
            except LanguageTagInvalid as error:
                raise Refused(
                    f"{path}: the file's name does not begin with a language tag, such as `it.jsonl`"
                ) from error
            if tag in files:
                raise Refused(f"{path}: there is another file of this language, {files[tag].name}")
            files[tag] = path
    if not files:
        raise Refused(f"{folder}: there is no dataset file")
    order = [tag for tag in LANGUAGES if tag in files]
    return {tag: files[tag] for tag in (*order, *sorted(files.keys() - set(order)))}


def _list_pictures(folder: Path) -> dict[str, Path]:
    """Return pictures by name without suffix."""
    files = sorted(_require_path(folder, "folder").iterdir())
    return {path.stem: path for path in files if path.suffix.lower() in _PICTURES}


def _list_shown(said: Mapping[str, Sequence[Said]], images: Mapping[str, Path]) -> dict[str, Path]:
    """Return the pictures that have captions, in order."""
    names = {each.picture for captions in said.values() for each in captions}
    return {name: path for name, path in images.items() if name in names}


def _clean(value: object) -> str | None:
    try:
        return clean(value) if isinstance(value, str) else None
    except InvalidInput:
        return None


def _require_path(path: Path, kind: str = "file") -> Path:
    if not (path.is_dir() if kind == "folder" else path.is_file()):
        raise Refused(f"{path}: no such {kind}")
    return path


def _describe_refusal(path: Path, error: PictoglotError, language: str) -> Refused:
    place = f", {error.errors[0].location}" if error.errors else ""
    return Refused(f"{path}{place}: {error.detail} ({language})")
