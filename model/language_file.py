"""A language as a file that travels: what a version learned, as if upon the base alone, so that any table may take it.

It is a version's folder in an archive, with the test that the language was measured by. Merges of other languages are
in it where its own tokens need them, and none of their rows.

The archive is a zip, whose bytes are compared with their checksum before anything of them is parsed: its comment, 64
digits at the end, the sha256 of all before them. Whoever made it may wish us ill: its directory has to be small, its
names are known, each has a limit, and everything is read in pieces.
"""

import gzip
import hashlib
import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from safetensors import SafetensorError, safe_open

from model import checkpoint
from model.checkpoint import LEXICON, NGRAMS, PROOF, ROWS, TOKENIZER, TokenRows, VersionContent
from model.encoder import VersionFolder, View
from model.lexicon import MOST_NGRAMS, MOST_WORDS
from model.tokenizer import Tokenizer, find_needed_merges
from store import files
from store.data_root import DataRoot
from store.errors import CorruptFolder, LanguageFileChanged, LanguageFileInvalid, LanguageOfOtherBase, VersionCorrupt
from store.keys import find_signer, sign_file

KIND = "pictoglot language 1"
TEST = "test.json.gz"
_SIGNATURE = f"{files.MANIFEST}.minisig"
_OWN = (ROWS, NGRAMS, LEXICON)
_REQUIRED = {*_OWN, TOKENIZER}
_MOST_CAPTIONS, _MOST_OTHERS = 500, 1_000  # of a test, which is to take seconds
_MOST_ROWS, _LARGEST = 150_000, 100.0  # the size of a value: a base's are below 1
_MOST_MERGES, _MOST_CUT, _LONGEST, _LONGEST_CUT = 200_000, 40_000, 1_000, 24  # the last two: characters of a text
_DEEPEST = 20  # how far lists and dictionaries of a manifest go into each other: formatted, deep ones take a gigabyte
_MOST_TEXT = 16 << 20  # bytes of a part that is no table, unpacked
# values in lists and dictionaries of such a part, which take 100 bytes or more each once they are read
_MOST_VALUES = {**dict.fromkeys((NGRAMS, f"{PROOF}{NGRAMS}"), MOST_NGRAMS), TOKENIZER: 1_000_000, TEST: 1_000_000}
_MOST_VALUES |= dict.fromkeys((LEXICON, f"{PROOF}{LEXICON}"), MOST_WORDS)
_MOST_MANIFEST, _MOST_SIGNATURE, _HEADER = 1 << 20, 4 << 10, 4 << 10
_BLOCK = 4_096  # rows that are looked at together
_TESTS = ("english", "pivots", "words")  # what its captions are ranked against; pictures do not travel
_DIGEST = 64  # bytes
_END = struct.Struct("<4s4H2LH")  # the end of a zip's directory, which stands before the comment
_LOCATOR = 20  # bytes of what may stand before that in a zip with 64-bit sizes: it would lead to another directory
_MOST_DIRECTORY = 4_096  # bytes
_CHUNK = 1 << 20
_PACKED = (ZIP_STORED, ZIP_DEFLATED)  # the others are unpacked without a limit


@dataclass(frozen=True)
class LanguageFile:
    """A file whose parts are in `folder`; `signer` is the public key of who signed it, if anybody did."""

    folder: Path
    manifest: Mapping[str, Any]
    signer: str | None


def write_file(
    path: Path,
    view: View,
    source: VersionFolder,
    facts: Mapping[str, Any],
    tests: Iterable[Mapping[str, Any]],
    signed_by: DataRoot | None = None,
) -> None:
    """Write the version in a folder, which `view` reads, as a file at `path`; `facts` go into its manifest.

    Of its `tests`, each as it is stored, one of texts is taken. A data root's key signs it. The same version gives the
    same bytes. Raises `VersionCorrupt`.
    """
    content, manifest = checkpoint.read_version(source.path, source.manifest_sha256)
    has_proof = f"{PROOF}{ROWS}" in manifest["files"]
    proof = checkpoint.read_version(source.path, proof=True)[0] if has_proof else content
    old, alone = view.tokenizer, _grow_alone(view.tokenizer, content, proof)
    content, proof = (_number_anew(each, old, alone, alone.copy_without_merges()) for each in (content, proof))
    test = _choose_test(tests)
    more = {} if test is None else {TEST: gzip.compress(json.dumps(test, ensure_ascii=False).encode(), mtime=0)}
    parts = path.with_name("parts")
    described = {**facts, "kind": KIND, "learned_with": old.sha256}
    checkpoint.write_version(parts, content, described, proof if has_proof else None, more)
    if signed_by is not None:
        signature = sign_file(signed_by, parts / files.MANIFEST, f"{KIND}, {facts['language']}:")
        (parts / _SIGNATURE).write_text(signature, encoding="utf-8")
    write_archive(path, parts)


def open_file(path: Path, folder: Path, base: tuple[str, str], width: int) -> LanguageFile:
    """Unpack a file into the new `folder`, and check all of it that asks for no reading of its texts.

    `base` are name and fingerprint of the one that serves, `width` is that of its rows. Raises `LanguageFileInvalid`,
    `LanguageFileChanged`, `LanguageOfOtherBase` and `StorageFull`.
    """
    table = _HEADER + _MOST_ROWS * (4 * width + 8)
    names = [f"{prefix}{name}" for prefix in ("", PROOF) for name in _OWN]
    limits = {name: table if name.endswith(ROWS) else _MOST_TEXT for name in (*names, TOKENIZER, TEST)}
    unpack_archive(path, folder, {**limits, files.MANIFEST: _MOST_MANIFEST, _SIGNATURE: _MOST_SIGNATURE})
    signer, signature = None, folder / _SIGNATURE
    try:
        if signature.exists():
            signer = find_signer(folder / files.MANIFEST, signature.read_text(encoding="utf-8"))
            signature.unlink()
        _check_depth(json.loads((folder / files.MANIFEST).read_bytes()))
        manifest = files.verify(folder)
    except (CorruptFolder, FileNotFoundError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise LanguageFileChanged("parts of the language file are not those that its manifest names") from error
    kind = manifest.get("kind"), manifest.get("format")
    if kind != (KIND, checkpoint.FORMAT) or not manifest["files"].keys() >= _REQUIRED:
        raise LanguageFileInvalid("this file is of another release of pictoglot, or lacks parts")
    if manifest.get("text_fingerprint") != base[1]:
        theirs = str(manifest.get("base"))[:100]
        raise LanguageOfOtherBase(f"this language was taught for base {theirs}, and base {base[0]} serves here")
    for name in manifest["files"]:
        if name in _MOST_VALUES:
            _check_texts_part(folder / name)
        elif name.endswith(ROWS):
            _check_rows(folder / name, width)
    return LanguageFile(folder, manifest, signer)


def attach(file: LanguageFile, shared: View, base: View) -> tuple[View, VersionContent, VersionContent]:
    """Return what a file brings as learned upon a view, that view, and the same before it was taught what is held out.

    The view is the `shared` one if its tokenizer is that upon which the language was taught: then it is read to the bit
    as it was there. Otherwise it is the base, of which the file has all. Raises `LanguageFileInvalid`.
    """
    try:
        content, manifest = checkpoint.read_version(file.folder)
        _check_texts(content)
        has_proof = f"{PROOF}{ROWS}" in manifest["files"]
        proof = checkpoint.read_version(file.folder, proof=True)[0] if has_proof else content
        _check_texts(proof)
        alone = content.extend_tokenizer(base.tokenizer)
        whole, parent = shared.tokenizer.extend(content.merges, content.words), shared
        if whole.sha256 != file.manifest["learned_with"]:
            whole, parent = alone, base
        contents = [_number_anew(each, alone, whole, parent.tokenizer) for each in (content, proof)]
        if any((np.diff(each.rows.ids) <= 0).any() for each in contents):
            raise ValueError("ids are not in order with the merges of this table")
    except (VersionCorrupt, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise LanguageFileInvalid("the language file has parts that no export writes") from error
    return parent, contents[0], contents[1] if has_proof else contents[0]


def read_test(file: LanguageFile) -> dict[str, Any] | None:
    """Return the test of a file, as an expansion keeps it; None where it has none. Raises `LanguageFileInvalid`."""
    path = file.folder / TEST
    if not path.exists():
        return None
    try:
        test = json.loads(gzip.decompress(path.read_bytes()))
        captions, targets, others = (
            _require_texts(test[name], _MOST_OTHERS) for name in ("captions", "targets", "others")
        )
        if test["against"] not in _TESTS or len(captions) != len(targets):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LanguageFileInvalid("the test of the language file cannot be read") from error
    return {"against": test["against"], "captions": captions, "targets": targets, "others": others}


def _choose_test(tests: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return that of most captions, single words last, as it can be asked elsewhere."""
    texts = [each for each in tests if each["against"] in _TESTS and each["captions"]]
    if not texts:
        return None
    best = max(texts, key=lambda each: (each["against"] != "words", len(each["captions"])))
    captions, targets = (best[name][:_MOST_CAPTIONS] for name in ("captions", "targets"))
    others = sorted({*best["targets"], *best["others"]} - {*targets}, key=lambda text: sha256(text.encode()).digest())
    return {"against": best["against"], "captions": captions, "targets": targets, "others": others[:_MOST_OTHERS]}


def _grow_alone(tokenizer: Tokenizer, content: VersionContent, proof: VersionContent) -> Tokenizer:
    """Return the base's tokenizer with what this one needs to make the tokens of a language, in the same order.

    Words of others that are cut out first stay where the language has all of their characters.
    """
    first, own = tokenizer.pieces.size, {*content.words}
    ids = np.union1d(content.rows.ids, proof.rows.ids).tolist()
    tokens = {tokenizer.decode(number) for number in ids if number >= first}
    tokens.update(left + right for left, right in content.merges)
    words = [word for word in tokenizer.words if word in own or all(character in content.ngrams for character in word)]
    return tokenizer.copy_without_merges().extend(find_needed_merges(tokenizer.merges, tokens), words)


def _number_anew(content: VersionContent, old: Tokenizer, new: Tokenizer, parent: Tokenizer) -> VersionContent:
    """Return what was learned with `old` for the tokens of `new`, which continues `parent`. Raises `KeyError`."""
    first = old.pieces.size
    ids = [number if number < first else new.find_id(old.decode(number)) for number in content.rows.ids.tolist()]
    return replace(
        content,
        merges=new.merges[len(parent.merges) :],
        words=new.words[len(parent.words) :],
        rows=TokenRows(np.array(ids, dtype=np.int64), content.rows.rows),
        tokenizer_sha256=new.sha256,
    )


def _check_depth(value: Any, left: int = _DEEPEST) -> None:
    if left < 0:
        raise ValueError("depth")
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(each, left - 1)


def _check_texts_part(path: Path) -> None:
    """Refuse a part that is damaged, too large unpacked, or of too many values; without holding it in memory."""
    room, values = _MOST_TEXT, _MOST_VALUES[path.name]
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            while room >= 0 and values >= 0 and (chunk := stream.read(_CHUNK)):
                room -= len(chunk)
                values -= sum(map(chunk.count, b"[{,"))
    except (OSError, EOFError, zlib.error) as error:
        raise LanguageFileInvalid("a part of the language file cannot be unpacked") from error
    if room < 0 or values < 0:
        raise LanguageFileInvalid("a part of the language file is too large")


def _check_rows(path: Path, width: int) -> None:
    """Refuse rows that are no table (n, width) of finite numbers beside n ids; some are in memory at a time."""
    try:
        with safe_open(path, "np") as tensors:
            rows, ids = tensors.get_slice("rows"), tensors.get_slice("ids")
            (count, wide), kinds = rows.get_shape(), (rows.get_dtype(), ids.get_dtype())
            if {*tensors.keys()} != {"rows", "ids"} or ids.get_shape() != [count] or kinds != ("F32", "I64"):
                raise ValueError
            if wide != width or count > _MOST_ROWS:
                raise ValueError
            blocks = (rows[start : min(start + _BLOCK, count)] for start in range(0, count, _BLOCK))
            whole = all(bool((np.abs(block) <= _LARGEST).all()) for block in blocks)  # false for NaN, too
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise LanguageFileInvalid(
            f"the rows of the language file are no table of this base's width, {width}"
        ) from error
    if not whole:
        raise LanguageFileInvalid("the rows of the language file have values that are not finite, or too large")


def _check_texts(content: VersionContent) -> None:
    """Raise `ValueError` for texts that no training makes."""
    _require_texts([text for merge in content.merges for text in merge], 2 * _MOST_MERGES)
    if any(len(word) > _LONGEST_CUT for word in _require_texts(content.words, _MOST_CUT)):
        raise ValueError("words that are cut out")
    counts = content.ngrams.values()
    if any(type(times) is not int or not 0 <= times < 1 << 31 for times in counts):
        raise ValueError("counts of n-grams")
    _require_texts([*content.ngrams], MOST_NGRAMS)
    if _require_texts(content.lexicon, MOST_WORDS) != sorted(content.lexicon):
        raise ValueError("the lexicon is not sorted")
    if (content.rows.ids < 0).any():
        raise ValueError("ids of tokens")


def _require_texts(texts: Sequence[Any], most: int) -> list[str]:
    """Return texts; raise `ValueError` unless they are at most so many, of no extraordinary length, and Unicode."""
    if len(texts) > most or not all(isinstance(text, str) and 0 < len(text) <= _LONGEST for text in texts):
        raise ValueError("texts")
    "".join(texts).encode()
    return [*texts]


def write_archive(path: Path, folder: Path) -> None:
    """Write the files of a folder as an archive at `path`; the same files give the same bytes."""
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.comment = b"0" * _DIGEST
        for file in sorted(folder.iterdir()):
            entry = ZipInfo(file.name)  # of 1980
            entry.compress_type = ZIP_DEFLATED
            with file.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _CHUNK)
    digest = _hash(path)
    with path.open("r+b") as stream:
        stream.seek(-_DIGEST, os.SEEK_END)
        stream.write(digest)


def unpack_archive(path: Path, folder: Path, limits: Mapping[str, int]) -> None:
    """Unpack an archive into a new folder; `limits` are the names that it may have, with the most bytes of each.

    Raises LanguageFileInvalid, LanguageFileChanged where it differs from its checksum, and StorageFull.
    """
    _check_end(path, len(limits))
    files.make_folder(folder)
    try:
        with ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len({*names}) < len(names) or not limits.keys() >= {*names}:
                raise LanguageFileInvalid("the file holds what does not belong into it")
            if any(entry.header_offset >= path.stat().st_size for entry in entries):
                raise LanguageFileInvalid("the directory of the file is not as it should be")
            if any(entry.file_size > limits[entry.filename] for entry in entries):
                raise LanguageFileInvalid("a part of the file is too large")
            if any(entry.compress_type not in _PACKED for entry in entries):
                raise LanguageFileInvalid("the file is packed in a way that is not read here")
            files.require_free(folder, sum(entry.file_size for entry in entries))
            for entry in entries:
                with archive.open(entry) as source, (folder / entry.filename).open("xb") as target:
                    shutil.copyfileobj(source, target, _CHUNK)  # no more than its size, whatever it unpacks to
                if (folder / entry.filename).stat().st_size != entry.file_size:
                    raise LanguageFileInvalid("a part of the file is cut off")
    # RuntimeError: of encryption, or a version, that is unknown here
    except (BadZipFile, RuntimeError, zlib.error, EOFError, ValueError, struct.error) as error:
        raise LanguageFileInvalid("the file cannot be unpacked") from error


def _check_end(path: Path, most: int) -> None:
    """Compare the bytes with their checksum, then see that the directory is small."""
    end = b""
    with path.open("rb") as stream:
        if (size := path.stat().st_size) >= _LOCATOR + _END.size + _DIGEST:
            stream.seek(size - _LOCATOR - _END.size - _DIGEST)
            end = stream.read()
    if end[_LOCATOR : _LOCATOR + 4] != b"PK\5\6" or end[_LOCATOR + 20 : _LOCATOR + 22] != b"\x40\0":
        raise LanguageFileInvalid("the file is of another kind, or cut off")
    if end[-_DIGEST:] != _hash(path):
        raise LanguageFileChanged("the file was changed after it was made: its bytes differ from their checksum")
    _, disk, first, here, count, directory, start, _ = _END.unpack_from(end, _LOCATOR)
    at_end = start + directory + _END.size + _DIGEST == size
    if end.startswith(b"PK\6\7") or disk or first or here != count or count > most or not at_end:
        raise LanguageFileInvalid("the directory of the file is not as it should be")
    if directory > _MOST_DIRECTORY:
        raise LanguageFileInvalid("the directory of the file is too large")


def _hash(path: Path) -> bytes:
    """Return the sha256 of all but the checksum, in hex."""
    digest, rest = hashlib.sha256(), path.stat().st_size - _DIGEST
    with path.open("rb") as stream:
        while chunk := stream.read(min(rest, _CHUNK)):
            digest.update(chunk)
            rest -= len(chunk)
    return digest.hexdigest().encode()
