"""One version on disk: its rows and its tokenizer's additions, written once and verified before every use."""

import gzip
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from model.table import TokenRows
from model.tokenizer import Merge, Tokenizer
from store import files
from store.errors import CorruptFolder, VersionCorrupt

FORMAT = 2
ROWS, TOKENIZER, NGRAMS, LEXICON = "rows.safetensors", "tokenizer.json", "ngrams.json.gz", "lexicon.json.gz"
PROOF = "proof-"  # before the names of rows, n-grams and words that were learned without what is held out


@dataclass(frozen=True)
class VersionContent:
    """What one expansion learned: additions to the parent's tokenizer, and rows for the tokens of its corpus."""

    merges: tuple[Merge, ...]
    words: tuple[str, ...]
    rows: TokenRows
    tokenizer_sha256: str
    ngrams: Mapping[str, int] = field(default_factory=dict, repr=False)  # of its captions, for language identification
    lexicon: tuple[str, ...] = field(default=(), repr=False)  # words by which its texts are read; none: as they are

    def extend_tokenizer(self, parent: Tokenizer) -> Tokenizer:
        """Return the parent's tokenizer, extended; `VersionCorrupt` unless it is the one the rows were trained with."""
        with suppress(KeyError):  # of a token that the parent lacks
            extended = parent.extend(self.merges, self.words)
            if extended.sha256 == self.tokenizer_sha256:
                return extended
        raise VersionCorrupt("the tokenizer is not the one this version was trained with")

    @property
    def digest(self) -> str:
        """Return a hex name of these rows and the tokens that they are of."""
        return sha256(self.rows.rows.cpu().contiguous().numpy().tobytes() + self.tokenizer_sha256.encode()).hexdigest()


def write(
    folder: Path,
    content: VersionContent,
    facts: dict[str, Any],
    proof: VersionContent | None = None,
    more: Mapping[str, bytes] | None = None,
) -> None:
    """Write a version durably at `folder`, unless the same expansion wrote it before; `facts` go into its manifest.

    `proof` is what it had learned before it was taught what is held out, with the same tokenizer; `more` are files that
    stay beside it.
    """
    if not folder.exists():
        with files.stage(folder) as staged:
            for prefix, each in (("", content), (PROOF, proof)):
                if each is not None:
                    tensors = {"rows": each.rows.rows.cpu().contiguous(), "ids": torch.from_numpy(each.rows.ids)}
                    (staged / f"{prefix}{ROWS}").write_bytes(save(tensors))
                    for name, value in ((NGRAMS, each.ngrams), (LEXICON, each.lexicon)):
                        (staged / f"{prefix}{name}").write_bytes(gzip.compress(json.dumps(value).encode(), mtime=0))
            tokenizer = {"merges": content.merges, "words": content.words, "sha256": content.tokenizer_sha256}
            (staged / TOKENIZER).write_text(json.dumps(tokenizer, ensure_ascii=False, indent=0), encoding="utf-8")
            for name, data in (more or {}).items():
                (staged / name).write_bytes(data)
            described = {**facts, "format": FORMAT, "rows": len(content.rows.ids)}
            files.write_manifest(staged, described)


def read(
    folder: Path, manifest_sha256: str | None = None, *, proof: bool = False
) -> tuple[VersionContent, dict[str, Any]]:
    """Return a verified version and its manifest; raises `VersionCorrupt` with a reason.

    With `proof`, as it was before it was taught what is held out: to be measured by that.
    """
    try:
        manifest = files.verify(folder, manifest_sha256)
        if manifest.get("format") != FORMAT:
            raise VersionCorrupt("the version's format is not supported by this release")
        prefix = PROOF if proof and f"{PROOF}{ROWS}" in manifest["files"] else ""
        tensors = load_file(folder / f"{prefix}{ROWS}")
        tokenizer = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
        merges = tuple((left, right) for left, right in tokenizer["merges"])
        ids = tensors["ids"].numpy()
        words = tuple(str(word) for word in tokenizer["words"])
        ngrams, lexicon = (
            json.loads(gzip.decompress((folder / f"{prefix}{name}").read_bytes())) for name in (NGRAMS, LEXICON)
        )
        rows = TokenRows(ids, tensors["rows"].float())
        content = VersionContent(merges, words, rows, tokenizer["sha256"], ngrams, tuple(map(str, lexicon)))
    except VersionCorrupt:
        raise
    except CorruptFolder as error:
        raise VersionCorrupt(error.detail) from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise VersionCorrupt("the version's files cannot be read") from error
    if not bool(torch.isfinite(tensors["rows"]).all()):
        raise VersionCorrupt("the version's rows are not finite")
    if tensors["rows"].ndim != 2 or len(ids) != len(tensors["rows"]) or (np.diff(ids) <= 0).any():
        raise VersionCorrupt("the version's rows and ids do not fit each other")
    return content, manifest
