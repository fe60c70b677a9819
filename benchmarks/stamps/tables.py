"""The report's tables, in Markdown, out of concluded figures. Measures nothing."""

from collections.abc import Iterator
from typing import Any

from model.languages import find_names

_WAYS = {"addressed": "named (each by its own version)", "shared": "shared table", "auto": "detected"}
Figure = tuple[str, str, str, bool]  # what, what was to be reached, what was measured, whether it is reached


def list_tables(found: dict[str, Any]) -> Iterator[str]:
    """Yield every table that there is something for."""
    yield _format_head(found)
    yield _build_figures(found)
    yield _build_few(found)
    yield _build_held_out(found, "held_out", "Held out: captions that were not taught")
    yield _build_held_out(found, "dictionary", "The same captions, with names of emoji as more pairs")
    yield _build_held_out(found, "freedict", "A dictionary alone")
    yield _build_held_out(found, "freedict_more", "Held out, with a dictionary as more pairs")
    yield _build_ways(found)
    yield _build_asked(found)
    yield _build_chain(found)
    yield _build_pivot(found)
    yield _build_adapter(found)
    yield _build_seen(found)


def _build_figures(found: dict[str, Any]) -> str:
    by_seed = found.get("by seed", [])
    columns = ["figure", "to reach", "measured", *(["each seed"] if by_seed else []), ""]
    rows = []
    for name, least, measured, holds in list_figures(found):
        each = [", ".join(one.get(name, "–").partition(" ")[0] for one in by_seed)] if by_seed else []
        rows.append([name, least, measured, *each, "yes" if holds else "**no**"])
    return _build_table(columns, rows)


def list_figures(found: dict[str, Any]) -> Iterator[Figure]:
    """Yield the figures that were to be reached, of what these results have."""
    english = found["asked"]["photographs"]["R@10"]
    yield "English, photographs, R@10", "≥ 60", _format_figure(english), english["value"] >= 60
    known = found.get("english", {}).get(found["half"], {}).get("known", {}).get("R@10")
    if known is not None:
        yield "the same, where the thing is known", "≥ 80", f"{known:.1f}", known >= 80
    seen = found["seen"]["mean"]["photographs"]
    if seen["share"] is not None:
        share, lowest = seen["share"], seen["lowest"]
        yield (
            "*seen*, share of English on the same pictures, mean",
            "≥ 95 %",
            _format_figure(share),
            share["value"] >= 95,
        )
        least = f"{_format_figure(lowest)} ({lowest['language']})"
        yield "the same, the lowest language", "≥ 88 %", least, lowest["value"] >= 88
    yield from _list_held_out_figures(found, "held_out", "*held out*")
    yield from _list_held_out_figures(found, "dictionary", "the same with names of emoji as more pairs")
    yield from _list_dictionary_figures(found)
    chain = found["chain"]
    if chain["languages"]:
        lost, same = chain["addressed"]["photographs"]["F"], chain["bitwise equal"]
        said = f"{lost:.1f}; vectors {'equal' if same else 'not equal'} to the bit"
        yield "after the chain: F of languages that are named", "0, bit for bit", said, same and lost == 0


def _list_held_out_figures(found: dict[str, Any], row: str, name: str) -> Iterator[Figure]:
    new = found[row]["mean"]["photographs"]
    if new["R@10"] is not None:
        yield f"{name}, R@10, mean", "≥ 26", _format_figure(new["R@10"]), new["R@10"]["value"] >= 26
        words = new["known words, share of all together"]
        if words is not None:
            yield (
                f"{name}, of taught words alone, share of English",
                "≥ 85 %",
                _format_figure(words),
                words["value"] >= 85,
            )


def _list_dictionary_figures(found: dict[str, Any]) -> Iterator[Figure]:
    for kind, name, least in (("large", "2,500 pairs and more", 70), ("small", "fewer", 35)):
        part = found["freedict"][kind]
        if part["share"] is not None:
            count = len(part["languages"])
            yield (
                f"a dictionary alone, {name}, {count} languages: share of English, mean",
                f"≥ {least} %",
                _format_figure(part["share"]),
                part["share"]["value"] >= least,
            )
    lowest = found["freedict"]["large"]["lowest"]
    if lowest is not None:
        figure = f"{_format_figure(lowest)} ({lowest['language']})"
        yield "the same, the lowest of the large ones", "≥ 45 %", figure, lowest["value"] >= 45
    more = found["freedict_more"]["mean"]["photographs"]["share"]
    if more is not None:
        yield (
            "*held out* with a dictionary, share of English, mean",
            "≥ 80 %",
            _format_figure(more),
            more["value"] >= 80,
        )
    for words, least in (("200", 40), ("600", 55)):
        if words in found["words_asked"]["words"]:
            share = found["words_asked"]["words"][words]["share"]
            yield (
                f"{words} words asked for, share of English, mean",
                f"≥ {least} %",
                _format_figure(share),
                (share["value"] >= least),
            )


def _build_ways(found: dict[str, Any]) -> str:
    named = {"new": "learned", "translated": "translated word by word", "both": "both scores added"}
    rows = [
        [named[way], _format_figure(part["R@10"]), _format_figure(part["share"]), _format_gain(part)]
        for way, part in found["freedict"]["ways"].items()
    ]
    columns = ["the dictionary is", "R@10", "of English", "R@10 over learned, all captions together"]
    return _add_title("A dictionary learned, or used to translate what is asked", columns, rows)


def _format_gain(part: dict[str, Any]) -> str:
    return "{gain:+.1f} ±{error:.1f}".format(**part["over learned"])


def _build_asked(found: dict[str, Any]) -> str:
    rows = [
        [words, str(len(part["languages"])), _format_figure(part["R@10"]), _format_figure(part["share"])]
        for words, part in found["words_asked"]["words"].items()
    ]
    columns = ["words", "languages", "R@10", "of English"]
    return _add_title("Words that the photographs ask for, answered by the dictionary, taught alone", columns, rows)


def _format_head(found: dict[str, Any]) -> str:
    done = {row: len(found[row]["languages"]) for row in ("seen", "dictionary", "pivot")}
    done["held out"] = len(found["held_out"]["languages"])
    done["chain"] = max(0, len(found["chain"]["languages"]) - 1)  # English is not taught
    done["adapter"] = sum(each["languages"] for each in found["adapter"]["kinds"].values())
    done["freedict"], done["freedict more"] = (len(found[row]["languages"]) for row in ("freedict", "freedict_more"))
    done["words asked"] = sum(len(part["languages"]) for part in found["words_asked"]["words"].values())
    done["few"] = sum(len(part["taught"]) for part in found["few"]["pairs"].values())
    parts = [f"{row} {count} of {found[row.replace(' ', '_')]['of']}" for row, count in done.items()]
    return (
        f"Half *{found['half']}*; {found['asked']['captions']} photographs are asked for among "
        f"{found['pictures']['photographs']}, or among all {found['pictures']['all']} pictures. "
        f"Measured: {', '.join(parts)}.\nIn per cent; ± is one standard error of the sample of pictures.\n"
    )


def _build_few(found: dict[str, Any]) -> str:
    rows = []
    for pairs, part in found["few"]["pairs"].items():
        taught, new = part["mean"]["taught"], part["mean"]["new"]
        cells = [_format_figure(which[what]) for which in (taught, new) for what in ("R@10", "share")]
        rows.append([pairs, str(len(part["taught"])), *cells])
    columns = ["pairs", "languages", "R@10, taught", "of English", "R@10, not taught", "of English"]
    return _add_title("Few pairs, means of the languages", columns, rows)


def _build_held_out(found: dict[str, Any], row: str, title: str) -> str:
    rows = []
    for tag, each in found[row]["languages"].items():
        here, words = each["photographs"], each["known words"]
        known = words["photographs"]
        cells = [_format_figure(here["R@10"]), _format_figure(here["english R@10"]), str(words["captions"])]
        cells += [_format_figure(known["R@10"]), _format_figure(known["english R@10"])]
        rows.append([*_name_language(tag), str(each["pairs"]), str(each["captions"]), *cells])
    if rows:
        mean = found[row]["mean"]["photographs"]
        figure = f"{_format_figure(mean['known words, share of all together'])} % of English"
        words = str(found[row]["of known words"])
        rows.append(
            ["", "together", "", str(found[row]["captions"]), _format_figure(mean["R@10"]), "", words, figure, ""]
        )
    columns = ["", "language", "pairs", "asked", "R@10", "English", "of taught words alone", "R@10 of those", "English"]
    return _add_title(title, columns, rows)


def _build_chain(found: dict[str, Any]) -> str:
    chain = found["chain"]
    if not chain["languages"]:
        return ""
    rows = []
    for how, name in _WAYS.items():
        cells = [
            f"{chain[how][gallery][metric]:.1f}" for gallery in ("photographs", "all") for metric in ("AA", "F", "F_en")
        ]
        cells[0] += f" ±{chain[how]['error of AA']:.1f}"
        rows.append([name, *cells])
    columns = ["read by", "AA", "F", "F_en", "AA, all", "F, all", "F_en, all"]
    return _add_title(f"The chain {', '.join(chain['languages'])}: AA, F and F_en at R@10", columns, rows)


def _build_pivot(found: dict[str, Any]) -> str:
    rows = []
    for name, each in found["pivot"]["languages"].items():
        here = each["photographs"]
        cells = [here["R@10"], each["from English"]["photographs"], here["english R@10"], here["share"]]
        rows.append([name, str(each["pairs"]), *map(_format_figure, cells)])
    columns = ["language", "pairs", "R@10", "from English pairs", "English", "of English"]
    return _add_title("Pairs with another language than English", columns, rows)


def _build_adapter(found: dict[str, Any]) -> str:
    rows = []
    for name, each in found["adapter"]["kinds"].items():
        for which, title in (("seen", "seen"), ("held_out", "held out"), ("known words", "of taught words alone")):
            gains = each.get(which)
            if gains is not None and gains["captions"]:
                cells = [
                    f"{gain['before']:.1f} → {gain['after']:.1f}: {gain['gain']:+.1f} ±{gain['error']:.1f}"
                    for gain in (gains["R@1"], gains["R@10"])
                ]
                rows.append([name, title, str(each["languages"]), str(gains["captions"]), *cells])
    columns = ["adapter", "captions", "languages", "asked", "R@1", "R@10"]
    return _add_title("Rows alone → rows and an adapter of the language's own, paired", columns, rows)


def _build_seen(found: dict[str, Any]) -> str:
    rows = []
    for tag, each in found["seen"]["languages"].items():
        here, every = each["photographs"], each["all"]
        cells = [here["R@1"], here["R@10"], here["english R@10"], here["share"], every["R@10"], every["share"]]
        rows.append([*_name_language(tag), str(each["pairs"]), *map(_format_figure, cells)])
    columns = ["", "language", "pairs", "R@1", "R@10", "English", "of English", "R@10, all", "of English, all"]
    return _add_title("Seen: captions that were taught", columns, rows)


def _add_title(title: str, columns: list[str], rows: list[list[str]]) -> str:
    return f"{title}.\n\n{_build_table(columns, rows)}" if rows else ""


def _build_table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _name_language(tag: str) -> tuple[str, str]:
    return f"`{tag}`", find_names(tag).name


def _format_figure(figure: dict[str, float] | None) -> str:
    return "–" if figure is None else f"{figure['value']:.1f} ±{figure['error']:.1f}"
