"""Folders as the paper's data lies on a disk, with twelve drawn figures and three languages."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

WORDS = {
    "en": (["red", "blue", "green", "black"], ["circle", "square", "line"]),
    "it": (["rosso", "blu", "verde", "nero"], ["cerchio", "quadrato", "linea"]),
    "de": (["rot", "blau", "grün", "schwarz"], ["Kreis", "Quadrat", "Linie"]),
}
SAID = {
    "en": ("a {} {}", "one {} {} alone", "look, a {} {}", "{}, a {}", "the {} {} here", "some {} {}"),
    "it": ("un {1} {0}", "solo un {1} {0}", "ecco, un {1} {0}", "{1}, {0}", "il {1} {0} qui", "qualche {1} {0}"),
    "de": ("{} und {}", "nur {}: {}", "schau, {}, {}", "{}, {}", "hier {} {}", "etwas {} {}"),
}
FIGURES = [(colour, shape) for colour in range(4) for shape in range(3)]
TESTED = FIGURES[8:]  # of Karpathy's splits
SPLITS = ["train"] * 5 + ["restval"] * 2 + ["val"] + ["test"] * 4


def captions(language: str, figure: tuple[int, int]) -> list[str]:
    colours, shapes = WORDS[language]
    return [form.format(colours[figure[0]], shapes[figure[1]]) for form in SAID[language]]


def draw(path: Path, figure: tuple[int, int]) -> None:
    image = Image.new("RGB", (40, 32), "white")
    pen = ImageDraw.Draw(image)
    colour = WORDS["en"][0][figure[0]]
    shape = (pen.ellipse, pen.rectangle, pen.line)[figure[1]]
    shape((8, 6, 30, 26), fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_coco(root: Path) -> None:
    images = []
    for number, (figure, split) in enumerate(zip(FIGURES, SPLITS, strict=True)):
        folder, name = ("val2014", f"COCO_val2014_{number:012}.jpg")
        draw(root / folder / name, figure)
        sentences = [{"raw": f"{caption} \n", "imgid": number} for caption in captions("en", figure)]
        entry = {"filepath": folder, "filename": name, "split": split, "imgid": number, "cocoid": number}
        images.append({**entry, "sentences": sentences})
    (root / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    for language in ("it", "de"):
        taught = [(e, t) for f in FIGURES[:8] for e, t in zip(captions("en", f), captions(language, f), strict=True)]
        Random(0).shuffle(taught)  # the order in the file means nothing
        corpus = root / "corpus" / "multilingual_coco" / "36langs" / f"coco_en-{language}.tsv.gz"
        corpus.parent.mkdir(parents=True, exist_ok=True)
        corpus.write_bytes(gzip.compress("".join(f"{e}\t{t}\n" for e, t in taught).encode()))
        annotations = [(8 + n, caption) for n, figure in enumerate(TESTED) for caption in captions(language, figure)]
        annotations[1] = annotations[0]  # a translation that says the same again asks again
        document = {
            "annotations": [
                {"image_id": number, "caption": caption, "id": n} for n, (number, caption) in enumerate(annotations)
            ],
            "images": [{"id": 8 + n} for n in range(len(TESTED))],
        }
        translated = root / "annotations" / "coco" / "translated" / language / "test_gt.json"
        translated.parent.mkdir(parents=True)
        translated.write_text(json.dumps(document))


def write_xm3600(root: Path) -> None:
    lines = []
    for number, figure in enumerate(FIGURES):
        key = f"{number:015x}a"
        draw(root / "images" / f"{key}.png", figure)
        said = {tag: {"caption": captions(tag, figure), "caption/tokenized": []} for tag in WORDS}
        lines.append(json.dumps({"image/key": key, "image/locale": "it", **said}))
    (root / "captions.jsonl").write_text("\n".join(lines))


def write_folder(root: Path) -> None:
    """Write JSON lines, CSV and a compressed TSV; German has one row without a picture."""
    rows: dict[str, list[dict[str, str]]] = {tag: [] for tag in WORDS}
    for number, figure in enumerate(FIGURES):
        draw(root / "images" / f"p{number}.png", figure)
        for tag in WORDS:
            split = "val" if number >= 8 else "train"
            for english, caption in zip(captions("en", figure), captions(tag, figure), strict=True):
                rows[tag].append({"caption": caption, "english": english, "picture": f"p{number}", "split": split})
    rows["de"].append({"caption": "ohne Bild", "english": "without a picture", "picture": "", "split": "train"})
    (root / "captions").mkdir()
    columns = ("caption", "english", "picture", "split")
    tables = {tag: [columns, *([row[column] for column in columns] for row in rows[tag])] for tag in ("it", "de")}
    (root / "captions" / "en.jsonl").write_text("\n".join(json.dumps(row) for row in rows["en"]))
    quoted = "\n".join(",".join(f'"{cell}"' for cell in cells) for cells in tables["it"])
    (root / "captions" / "it.csv").write_text(quoted)
    tabbed = "\n".join("\t".join(cells) for cells in tables["de"])
    (root / "captions" / "de.tsv.gz").write_bytes(gzip.compress(tabbed.encode()))


WRITERS: dict[str, Callable[[Path], None]] = {"coco": write_coco, "xm3600": write_xm3600, "folder": write_folder}
