"""What histories are made of: pictures, captions and datasets by number, and a base of random weights."""

import io
import json
import random
from functools import cache
from pathlib import Path

from PIL import Image

PICTURES = 24  # different pictures; more ids than that share them
IDS = tuple(f"shelf {number % 3}/p{number}" if number % 4 == 0 else f"p{number}" for number in range(32))
COLLECTIONS = ("default", "museum", "archive")
TAGS = ("bridge", "river", "scan", "night")
YEARS = (1900, 1950, 2000)
ENGLISH = ("apple", "dog", "house", "sea", "sun", "cat", "ship", "flower", "star", "bread")
COLOURS = ("red", "green", "blue", "old", "big", "small", "white", "black", "new", "cold")
INVENTED = {  # three languages that share sub-words
    "cy": ("afal", "ci", "tŷ", "môr", "haul", "cath", "llong", "blodyn", "seren", "bara"),
    "br": ("aval", "ki", "ti", "mor", "heol", "kazh", "lestr", "bleuñv", "stered", "bara"),
    "kw": ("aval", "ky", "chi", "mor", "howl", "kath", "gorhel", "bleujen", "ster", "bara"),
}
LANGUAGES = ("en", *INVENTED)
CAPTION = "motif"  # each caption of a picture begins with it
DATASETS = 2  # of each language
# thirty steps, with a checkpoint after twenty; nothing is to be gained here, and the gate would say so
LESSON = {"epochs": 15, "vocabulary": 300}
CONFIGURATION = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@cache
def draw_picture(number: int) -> bytes:
    """Return a PNG of sixteen coloured squares."""
    chance, drawn = random.Random(number), Image.new("RGB", (48, 48))
    for left in range(0, 48, 12):
        for top in range(0, 48, 12):
            drawn.paste(tuple(chance.randrange(256) for _ in range(3)), (left, top, left + 12, top + 12))
    written = io.BytesIO()
    drawn.save(written, "PNG")
    return written.getvalue()


def list_texts(language: str) -> tuple[str, str]:
    """Return two texts in a language, by which its vectors and its searches are watched."""
    if language == "en":
        return "red apple", "a small ship"
    words = INVENTED[language]
    return f"{words[0]} {COLOURS[0][::-1]}", f"{words[6]} {COLOURS[5][::-1]}"


def write_dataset(language: str, number: int) -> bytes:
    """Return a hundred captions of an invented language with their English, as JSON lines."""
    rows = [
        {"caption": f"{word} {colour[::-1]}", "english": f"{colour} {english}"}
        for word, english in zip(INVENTED[language], ENGLISH, strict=True)
        for colour in COLOURS[number:] + COLOURS[:number]
    ]
    return "".join(json.dumps(row) + "\n" for row in rows[number:]).encode()


def write_base(folder: Path, name: str, seed: int) -> str:
    """Write a base of two-layer towers with random weights; returns what `PICTOGLOT_BASE` is to be."""
    import open_clip  # a few seconds, and nobody else here needs it
    import torch
    from safetensors.torch import save_file

    settings, weights = folder / f"{name}.json", folder / f"{name}.safetensors"
    settings.write_text(json.dumps(CONFIGURATION))
    open_clip.add_model_config(settings)
    torch.manual_seed(seed)
    towers = open_clip.create_model(name)
    save_file({key: tensor.contiguous() for key, tensor in towers.state_dict().items()}, weights)
    return f"{name}@{weights}"
