"""Dictionaries of every format, as their publishers lay them out."""

import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from client.dictionaries import write_dictionary
from tests.client.test_commands import run, run_json
from tests.client.test_learn import BRETON
from tests.model.spreadsheets import write_ods, write_xlsx
from tests.service.harness import running

KISSA = {"word": "kissa", "glosses": ["cat"]}
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
TEI = (
    '<?xml version="1.0" encoding="UTF-8"?><TEI xmlns="http://www.tei-c.org/ns/1.0"><text><body>{}</body></text></TEI>'
)
SENSE = '<cit type="{}"><quote>{}</quote></cit>'
DOCTYPE = '<!DOCTYPE LexicalResource SYSTEM "http://globalwordnet.github.io/schemas/WN-LMF-1.1.dtd">'


def read(file: Path, language: str = "fi", english: Path | None = None) -> list[Any]:
    """Return the entries of a dictionary as they are sent."""
    target = io.BytesIO()
    write_dictionary(file, language, english, target)
    return [json.loads(line) for line in target.getvalue().splitlines()]


def write(file: Path, content: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def encode_number(number: int) -> str:
    return (encode_number(number // 64) if number >= 64 else "") + DIGITS[number % 64]


def make_dict(file: Path, articles: Sequence[str], *, packed: bool = True, cut: int = 0) -> Path:
    """Write a DICT dictionary with its index sorted by word, as dictd wants it; return the index."""
    places, text = [], b""
    for article in articles:
        content = article.encode() + b"\n"
        places.append((article.split("\n")[0].split(" /")[0].casefold(), len(text), len(content)))
        text += content
    text = text[: len(text) - cut]
    write(file.with_suffix(".dict.dz" if packed else ".dict"), gzip.compress(text) if packed else text)
    lines = sorted(
        "\t".join((word, encode_number(offset), encode_number(size))) + "\n" for word, offset, size in places
    )
    return write(file.with_suffix(".index"), "".join(lines))


def make_stardict(file: Path, articles: Sequence[tuple[str, bytes]], options: str = "sametypesequence=m\n") -> Path:
    """Write a StarDict dictionary; return its .ifo file."""
    index, text = b"", b""
    for word, article in articles:
        index += word.encode() + b"\0" + len(text).to_bytes(4, "big") + len(article).to_bytes(4, "big")
        text += article
    write(file.with_suffix(".idx"), index)
    write(file.with_suffix(".dict.dz"), gzip.compress(text))
    return write(file.with_suffix(".ifo"), f"StarDict's dict ifo file\nversion=2.4.2\nbookname=x\n{options}")


def refuse(file: Path, language: str = "fi", *more: str) -> str:
    """Return the sentence with which the command line refuses a file, before it speaks to any service."""
    result = run(None, "learn", language, "--dictionary", str(file), "--dry-run", *more)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("kissa,cat\nkoira,dog\n", [KISSA, {"word": "koira", "glosses": ["dog"]}]),
        ("word,english\nkissa,cat\n", [KISSA]),
        ("\ufeffsep=;\r\nEnglish;Caption\r\ncat;kissa\r\n", [KISSA]),
        ("english\tFinnish\ncat\tkissa\n", [KISSA]),
        ("kissa\tcat\n", [KISSA]),
        ("kissa;cat\nkuu;moon, month\n", [KISSA, {"word": "kuu", "glosses": ["moon, month"]}]),
        (
            "kuu,moon; month\nkissa,cat | tom\n",
            [{"word": "kuu", "glosses": ["moon", "month"]}, {"word": "kissa", "glosses": ["cat", "tom"]}],
        ),
        ("pos,word,gloss,forms\nn,kissa,cat,kissan;kissat\n", [KISSA | {"pos": "n", "forms": ["kissan", "kissat"]}]),
        (
            'kissa,"cat, tame"\nkoira\n"a ""b""",c\n',
            [
                {"word": "kissa", "glosses": ["cat, tame"]},
                {"word": "koira", "glosses": []},
                {"word": 'a "b"', "glosses": ["c"]},
            ],
        ),
        ('kissa\t"cat\n', [{"word": "kissa", "glosses": ['"cat']}]),
    ],
)
def test_a_table_is_read_with_and_without_a_header(tmp_path: Path, text: str, entries: list[Any]) -> None:
    assert read(write(tmp_path / "list.txt", text)) == entries
    assert read(write(tmp_path / "list.gz", gzip.compress(text.encode()))) == entries


ARTICLES: list[tuple[list[str], tuple[Any, ...]]] = [  # as they stand in dictionaries of FreeDict
    (
        ["afsê /ˈɐfsˌeː/", "1. cancel, countermand", "2. abjure, annul"],
        ("afsê", ["cancel, countermand", "abjure, annul"]),
    ),
    (
        ["carrer //kaˈre// //kəˈre// <n, masc>", "1. street", "lloc per on", "2. fairway", "(golf) Zona"],
        ("carrer", ["street", "fairway"], "n"),
    ),
    (["lyhty /lˈyhty/ <n>", "lantern", "valaisin"], ("lyhty", ["lantern"], "n")),
    (
        ["Leine <fem, n>", " [Br.] leash <n> [Am.]", '     "an der Leine"  - on a leash', "", " see: {Leinen}"],
        ("Leine", ["leash"], "n"),
    ),
    (
        ["jdn./etw. loslassen /jˌɔt ˈɛtf/ <v, trans>", "let go of sb./sth. <v> , release <v>"],
        ("jdn./etw. loslassen", ["let go of sb./sth., release"], "v"),
    ),
    (
        [" [news1]  夕飯 /(en)tʃˈ/,  [nf40]  ゆうはん /jˈɯ/", "(noun (common))", " evening meal"],
        ("夕飯", ["evening meal"], "", ["ゆうはん"]),
    ),
    (["jumba /ɟˈumba/ <n> (pl: {majumba})", "", "mansion, palace"], ("jumba", ["mansion, palace"], "n", ["majumba"])),
    (["wakimbizi <n>", "", " Plural of {x}: 1. refugee 2. fugitive"], ("wakimbizi", ["refugee", "fugitive"], "n")),
    (["choma <v>", "1.", "burn, roast", "2.", "pierce"], ("choma", ["burn, roast", "pierce"], "v")),
    (
        ["здоровый /zdʌˈ/ <adj>", "1. wholesome 2.", "полезный для здоровья", " 3.", "перен. полезный", "2. healthy"],
        ("здоровый", ["wholesome", "healthy"], "adj"),
    ),
    (["falloir <v>", "1.", '      "Il faut que"', " It is necessary that"], ("falloir", [], "v")),
    (["hot /h/", "hot (of food), warm"], ("hot", ["hot (of food), warm"])),
]


@pytest.mark.parametrize(("lines", "entry"), ARTICLES)
def test_an_article_of_dict_is_read_by_its_layout(tmp_path: Path, lines: list[str], entry: tuple[Any, ...]) -> None:
    index = make_dict(tmp_path / "x", ["00-database-short\n     A dictionary", "\n".join(lines), "zz\nlast"])
    fields = dict(zip(("word", "glosses", "pos", "forms"), entry, strict=False))
    expected = {name: value for name, value in fields.items() if value or name == "glosses"}
    assert read(index) == [expected, {"word": "zz", "glosses": ["last"]}]
    assert read(index.with_suffix(".dict.dz")) == read(index)


def test_words_that_lead_to_one_article_are_one_entry(tmp_path: Path) -> None:
    index = make_dict(tmp_path / "x", ["kissa\ncat"], packed=False)
    index.write_text(index.read_text() + index.read_text().replace("kissa", "katti"))
    assert read(index) == [KISSA]


def test_stardict_is_read_in_its_types_of_articles(tmp_path: Path) -> None:
    plain = make_stardict(
        tmp_path / "plain", [("kissa", b"cat"), ("00-database-info", b"x"), ("kuu", b"1. moon\n2. month")]
    )
    write(plain.with_suffix(".syn"), b"kissat\0" + (0).to_bytes(4, "big"))
    kuu = {"word": "kuu", "glosses": ["moon", "month"]}
    assert read(plain) == [KISSA | {"forms": ["kissat"]}, kuu] == read(plain.with_suffix(".idx"))
    html = "<b>kissa</b> /k/<br/><i>n</i><ol><li>cat &amp; <b>dog</b></li><li>tom<ul><li>he-cat</li></ul></li></ol>"
    page = make_stardict(tmp_path / "page", [("Kissa", html.encode())], "sametypesequence=h\n")
    assert read(page) == [{"word": "Kissa", "glosses": ["cat & dog", "tom", "he-cat"]}]
    xdxf = "<k>kissa</k>\n<tr>ˈkissɑ</tr><gr>n</gr><def><dtrn>cat</dtrn><ex>kissa!</ex></def>"
    assert read(make_stardict(tmp_path / "xdxf", [("kissa", xdxf.encode())], "sametypesequence=x\n")) == [KISSA]
    mixed = b"tk\xcb\x88\0W" + (3).to_bytes(4, "big") + b"snd" + b"mcat\0"
    assert read(make_stardict(tmp_path / "mixed", [("kissa", mixed)], "")) == [KISSA]
    assert read(make_stardict(tmp_path / "two", [("kissa", b"k\0cat")], "sametypesequence=tm\n")) == [KISSA]
    twice = make_stardict(tmp_path / "twice", [("a", b"cat")])
    write(twice.with_suffix(".idx"), b"a\0" + bytes(7) + b"\x03" + b"b\0" + bytes(7) + b"\x03")
    assert [entry["word"] for entry in read(twice)] == ["a", "b"]


def test_tei_is_read_without_definitions_and_examples(tmp_path: Path) -> None:
    forms = (
        "<form><orth>kissa</orth><form type='infl'><orth>kissat</orth></form></form><gramGrp><pos>n.</pos></gramGrp>"
    )
    example = f'<cit type="example"><quote>oma kissa</quote>{SENSE.format("trans", "a cat of my own")}</cit>'
    entry = (
        f"<entry>{forms}<sense>{SENSE.format('trans', 'cat')}{example}<sense><def>eläin</def></sense></sense></entry>"
    )
    second = "<entry><form><orth>abudu</orth></form><sense><def>worship, revere</def></sense></entry>"
    second = f"<superEntry>{second}</superEntry>"
    assert read(write(tmp_path / "x.tei", TEI.format(entry + second))) == [
        KISSA | {"pos": "n", "forms": ["kissat"]},
        {"word": "abudu", "glosses": ["worship, revere"]},
    ]


def test_names_of_characters_are_paired_with_the_english_file_beside(tmp_path: Path) -> None:
    def make_xml(tag: str, name: str) -> str:
        given = f'<annotation cp="🐈">a | b</annotation><annotation cp="🐈" type="tts">{name}</annotation>'
        given += f'<annotation cp="{tag}" type="tts">only here</annotation>'
        return f'<!DOCTYPE ldml SYSTEM "../../common/dtd/ldml.dtd"><ldml><annotations>{given}</annotations></ldml>'

    def make_json(name: str) -> str:
        names = {"🐈": {"default": ["a"], "tts": [name]}, "x": {"default": ["b"]}}
        return json.dumps({"annotations": {"identity": {}, "annotations": names}}, indent=2)

    file, english = (
        write(tmp_path / "fi.xml", make_xml("fi", "kissa")),
        write(tmp_path / "en.xml", make_xml("en", "cat")),
    )
    assert read(file) == [KISSA]
    assert read(file, english=write(tmp_path / "y" / "z.xml", english.read_bytes())) == [KISSA]
    english.unlink()
    assert "--english" in refuse(file)
    document = write(tmp_path / "fi" / "annotations.json", make_json("kissa"))
    write(tmp_path / "en" / "annotations.json", make_json("cat"))
    assert read(document) == [KISSA]


def test_words_of_a_wordnet_are_paired_by_the_concepts_of_their_synsets(tmp_path: Path) -> None:
    def make_lmf(lemmas: dict[str, str], tag: str) -> str:
        entries = (
            f'<LexicalEntry id="{word}"><Lemma writtenForm="{word}" partOfSpeech="n"/><Form writtenForm="{word}s"/>'
            + "".join(f'<Sense id="{word}-{n}" synset="{tag}-{n}"/>' for n in numbers)
            + "</LexicalEntry>"
            for word, numbers in lemmas.items()
        )
        synsets = (f'<Synset id="{tag}-{n}" ili="{"in" if n == "9" else f"i{n}"}"/>' for n in "1239")
        body = "".join((*entries, *synsets))
        return f'{DOCTYPE}<LexicalResource><Lexicon id="{tag}" language="{tag}">{body}</Lexicon></LexicalResource>'

    file = write(tmp_path / "omw-fi" / "omw-fi.xml", make_lmf({"kissa": "12", "kuu": "39"}, "fi"))
    write(tmp_path / "omw-en" / "omw-en.xml", make_lmf({"cat": "1", "moon": "39", "true cat": "12", "x": "9"}, "en"))
    assert read(file) == [
        {"word": "kissa", "glosses": ["cat", "true cat"], "pos": "n", "forms": ["kissas"]},
        {"word": "kuu", "glosses": ["moon"], "pos": "n", "forms": ["kuus"]},
    ]


def test_wiktextract_gives_the_words_of_one_language(tmp_path: Path) -> None:
    forms = [
        {"form": "kissan", "tags": ["genitive"]},
        {"form": "fi-decl", "tags": ["inflection-template"]},
        {"form": "-"},
    ]
    senses = [
        {"glosses": ["An animal.", "cat"]},
        {"glosses": ["plural of x"], "form_of": [{"word": "x"}]},
        {"tags": ["no-gloss"]},
    ]
    rows = [
        {"word": "kissa", "lang_code": "fi", "pos": "noun", "senses": senses, "forms": forms},
        {"word": "katt", "lang_code": "sv", "pos": "noun", "senses": senses},
    ]
    file = write(tmp_path / "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert read(file) == [KISSA | {"pos": "noun", "forms": ["kissan"]}]
    assert [entry["word"] for entry in read(file, "sv-FI")] == ["katt"]
    assert "no word of cy; it has: fi, sv" in refuse(file, "cy")


def test_lines_as_the_service_reads_them_go_through(tmp_path: Path) -> None:
    rows = [
        KISSA | {"pos": "n", "forms": ["kissan"]},
        KISSA | {"pos": None, "other": 1},
        {"word": 1, "glosses": "\ud800"},
    ]
    file = write(tmp_path / "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert read(file) == [rows[0], KISSA, {"word": "", "glosses": ["?"]}]
    long = {"word": "a" * 9_000, "glosses": ["b"] * 1_000, "forms": ["c"] * 1_000}
    (cut,) = read(write(tmp_path / "y.jsonl", json.dumps(long)))
    assert len(cut["word"]) == 1_500 and len(cut["glosses"]) == 32 and len(cut["forms"]) == 64


def test_the_service_chooses_and_a_dry_run_says_what(tmp_path: Path) -> None:
    articles = [f"afalau{number} /a/ <n, masc>\nred apple {number}" for number in range(80)]
    index = make_dict(tmp_path / "cym-eng", ["00-database-info\n     Welsh", *articles, "y <art>\nthe", "coch\n"])
    with running(tmp_path / "home") as service:
        asked = ("learn", "cy", "--dictionary", str(index))
        lines = run(service, *asked, "--dry-run").stdout.splitlines()
        assert lines[:4] == [
            "cym-eng.index can be used to teach Welsh (cy). This was a dry run: nothing was taught.",
            "",
            "A dictionary of 82 entries, of which 80 are taken:",
            "  80 words, each with a text in English (en)",
        ]
        found = run_json(service, *asked, "--dry-run")["report"]["dictionary"]
        examples = [f"  {example['word']} – {example['gloss']}" for example in found["examples"]]
        reasons = [f"  {count} {found['reasons'][code]}" for code, count in found["left_out"].items()]
        start = lines.index("For example:") + 1
        assert len(examples) == 20 and examples[0].startswith("  afalau") and len(reasons) == 2
        assert lines[start : start + 23] == [*examples, "2 entries are left out:", *reasons]
        sent = run_json(service, *asked, "--replace")
        assert sent["state"] == "queued"
        settings = service.context.registry.expansions.get(sent["id"]).settings
        assert settings == {"pivot": "en", "replace": True}
        run_json(service, "expansions", sent["id"], "--cancel")
        again = run_json(service, *asked)
        digests = {service.context.registry.expansions.get(each["id"]).dataset_sha256 for each in (sent, again)}
        assert len(digests) == 1  # by which the same dictionary is known again
        refused = run(service, *asked, "--pivot", "kw", "--dry-run")
        assert refused.exit_code == 2 and "pivot_not_served" in refused.stderr
        for name, sheet in (("x.xlsx", write_xlsx), ("x.ods", write_ods)):
            (file := tmp_path / name).write_bytes(sheet([["word", "english"], *(list(pair) for pair in BRETON)]))
            found = run_json(service, "learn", "br", "--dictionary", str(file), "--dry-run")
            assert (found["report"]["dictionary"]["taken"], found["doubts"]) == (64, []), name
