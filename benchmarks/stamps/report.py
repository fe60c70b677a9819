"""From results to figures, tables and plots of one half. Measures nothing."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.emoji36.errors import Refused
from benchmarks.forgetting import measure_english_forgetting
from benchmarks.stamps import figures, rows, tables
from benchmarks.stamps.bench import GALLERIES, Asked, Bench
from benchmarks.stamps.cases import ROWS, Case, Row, list_cases
from benchmarks.stamps.data import Half
from benchmarks.stamps.figures import of_half
from model.evaluation import compute_average_accuracy, compute_forgetting
from model.languages import ENGLISH
from store import files

HOW = ("addressed", "shared", "auto")
WAYS = ("new", "translated", "both")
LARGE = 2_500  # pairs of a dictionary
Done = Sequence[tuple[Case, rows.Result]]


def write(benches: Sequence[Bench], head: Mapping[str, Any], languages: Sequence[str], half: Half, out: Path) -> str:
    """Write figures into `out`, beside those that `english` wrote of the same base, and tables and plots beside it.

    Of several benches, one a seed, the figures are means of the cases that all have, and each one's are beside them.

    Returns the tables; raises `Refused` where nothing was measured, or `out` has figures of another base.
    """
    from benchmarks.stamps import plots  # late: `words` is for everybody, and needs no matplotlib

    before = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    other = next((key for key in head if before.get(key, head[key]) != head[key]), None)
    if other is not None:
        raise Refused(f"--out: {out} has figures of another {other}; name another file")
    found = {**before, **head, **conclude(benches, languages, half)}
    if len(benches) > 1:
        alone = [{**before, **conclude([bench], languages, half)} for bench in benches]
        found["by seed"] = [{name: measured for name, _, measured, _ in tables.list_figures(one)} for one in alone]
    files.write_bytes(out, (json.dumps(found, indent=1) + "\n").encode())
    plots.draw(found, out.with_suffix(""))
    return page.place(out.with_suffix(".md"), "Stamps", tables.list_tables(found))


def conclude(benches: Sequence[Bench], languages: Sequence[str], half: Half) -> dict[str, Any]:
    """Return the figures of every row, of the cases that were measured; `of` says how many there are to measure."""
    bench = benches[0]
    wanted = list_cases(bench.photographs, ROWS, languages)
    by_row: dict[Row, Done] = {
        row: [(case, result) for case in wanted if case.row == row and (result := _read(benches, case))] for row in ROWS
    }
    if not by_row["english"]:
        raise Refused(f"{bench.folder}: nothing was measured with this base; `run` comes first")
    english: Asked = by_row["english"][0][1]["asked"]["english"]
    counts = {row: sum(case.row == row for case in wanted) for row in ROWS}
    return {
        "half": half,
        "pictures": {name: len(places) for name, (places, _) in bench.galleries.items()},
        "asked": figures.compare_with_english(of_half(english, half), english),
        "seen": {"of": counts["seen"], **_report_seen(by_row["seen"], english, half)},
        "held_out": {"of": counts["held_out"], **_report_held_out(by_row["held_out"], english, half)},
        "chain": {"of": counts["chain"], **_report_chain(by_row["chain"], half)},
        "pivot": {"of": counts["pivot"], **_report_pivot(by_row["pivot"], by_row["seen"], english, half)},
        "few": {"of": counts["few"], **_report_few(by_row["few"], english, half)},
        "dictionary": {"of": counts["dictionary"], **_report_held_out(by_row["dictionary"], english, half)},
        "freedict": {"of": counts["freedict"], **_report_dictionaries(by_row["freedict"], english, half)},
        "freedict_more": {"of": counts["freedict_more"], **_report_held_out(by_row["freedict_more"], english, half)},
        "words_asked": {"of": counts["asked"], **_report_asked(by_row["asked"], english, half)},
        "adapter": {"of": counts["adapter"], "kinds": _report_adapter(by_row, half)},
    }


def _read(benches: Sequence[Bench], case: Case) -> rows.Result | None:
    """Return what was measured of a case: the ranks of all seeds, anything else of the first."""
    results = [rows.read(bench, case) for bench in benches]
    there = [result for result in results if result is not None]
    if len(there) < len(benches):
        return None
    return {**there[0], "asked": _join([result["asked"] for result in there])}


def _join(parts: Sequence[Any]) -> Any:
    """Put the lists one after another that stand at the same place of several trees."""
    if isinstance(parts[0], dict):
        return {name: _join([part[name] for part in parts]) for name in parts[0]}
    return [rank for part in parts for rank in part]


def _report_seen(done: Done, english: Asked, half: Half) -> dict[str, Any]:
    asked = {case.language: of_half(result["asked"]["taught"], half) for case, result in done}
    found: dict[str, Any] = {}
    for gallery in GALLERIES:
        shares = {tag: figures.share(each, english, gallery) for tag, each in asked.items()}
        least = figures.find_lowest(shares)
        found[gallery] = {
            "share": _to_json(figures.compute_mean(shares.values())),
            "R@10": _to_json(figures.compute_mean(figures.measure_recall(each, gallery) for each in asked.values())),
            "lowest": None if least is None else {"language": least[0], **least[1].as_json()},
        }
    return {"mean": found, "languages": _report_languages(done, "taught", english, half)}


def _report_held_out(done: Done, english: Asked, half: Half) -> dict[str, Any]:
    new = {case.language: of_half(result["asked"]["new"], half) for case, result in done}
    known = {case.language: of_half(result["asked"]["new"], half, result["known"]) for case, result in done}
    languages = _report_languages(done, "new", english, half)
    for tag, each in known.items():
        languages[tag]["known words"] = figures.compare_with_english(each, english)
    return {
        "mean": {
            gallery: {
                "R@10": _to_json(figures.compute_mean(figures.measure_recall(each, gallery) for each in new.values())),
                "share": _to_json(figures.compute_mean(figures.share(each, english, gallery) for each in new.values())),
                "known words, share of all together": _to_json(figures.pool(known.values(), english, gallery)),
            }
            for gallery in GALLERIES
        },
        "captions": sum(map(len, new.values())),
        "of known words": sum(map(len, known.values())),
        "languages": languages,
    }


def _report_dictionaries(done: Done, english: Asked, half: Half) -> dict[str, Any]:
    """Report on dictionaries alone: large ones and others apart."""
    found = _report_held_out(done, english, half) | {"ways": _report_ways(done, english, half)}
    for name, some in (("large", [each for each in done if each[1]["pairs"] >= LARGE]),
                       ("small", [each for each in done if each[1]["pairs"] < LARGE])):  # fmt: skip
        shares = {case.language: figures.share(of_half(result["asked"]["new"], half), english) for case, result in some}
        least = figures.find_lowest(shares)
        found[name] = {
            "languages": [*shares],
            "share": _to_json(figures.compute_mean(shares.values())),
            "lowest": None if least is None else {"language": least[0], **least[1].as_json()},
        }
    return found


def _report_ways(done: Done, english: Asked, half: Half) -> dict[str, Any]:
    """Report on a dictionary learned, on one that translates, and on both: what each gains over learning alone."""
    sides = {way: [of_half(result["asked"][way], half) for _, result in done] for way in WAYS}
    return {
        way: {
            "R@10": _to_json(figures.compute_mean(map(figures.measure_recall, asked))),
            "share": _to_json(figures.compute_mean(figures.share(one, english) for one in asked)),
            "over learned": figures.compare_recalls(sides["new"], asked, figures.TEN),
        }
        for way, asked in sides.items()
        if asked
    }


def _report_asked(done: Done, english: Asked, half: Half) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for words in sorted({case.pairs for case, _ in done}):
        some = [(case, result) for case, result in done if case.pairs == words]
        asked = [of_half(result["asked"]["new"], half) for _, result in some]
        found[str(words)] = {
            "R@10": _to_json(figures.compute_mean(map(figures.measure_recall, asked))),
            "share": _to_json(figures.compute_mean(figures.share(one, english) for one in asked)),
            "languages": _report_languages(some, "new", english, half),
        }
    return {"words": found}


def _report_chain(done: Done, half: Half) -> dict[str, Any]:
    steps: list[rows.Result] = []
    for place, (case, result) in enumerate(done, 1):
        if len(case.chain) != place:
            break  # the step between was not measured
        steps.append(result)
    if not steps:
        return {"languages": []}
    first: dict[str, str] = {}
    equal = all(first.setdefault(tag, digest) == digest for step in steps for tag, digest in step["digests"].items())
    found: dict[str, Any] = {"languages": [ENGLISH, *steps[-1]["chain"]], "bitwise equal": equal}
    for how in HOW:
        over = figures.compute_mean(
            figures.measure_recall(of_half(asked, half)) for asked in steps[-1]["asked"][how].values()
        )
        found[how] = {"error of AA": round(over.error, 1) if over else 0.0}
        for gallery in GALLERIES:
            base = figures.build_triangle(steps[:1], "addressed", half, gallery)[0][:1]  # English, before any language
            found[how][gallery] = _compute_metrics([base, *figures.build_triangle(steps, how, half, gallery)])
    return found


def _compute_metrics(a: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return AA, F and F_en at R@10 in per cent, and the triangle that they are of: a[0] is the base's own English."""
    measures = {"AA": compute_average_accuracy, "F": compute_forgetting, "F_en": measure_english_forgetting}
    rounded = [[round(100 * value, 1) for value in row] for row in a]
    return {**{name: round(100 * measure(a), 1) for name, measure in measures.items()}, "triangle": rounded}


def _report_pivot(done: Done, seen: Done, english: Asked, half: Half) -> dict[str, Any]:
    """Compare with the same captions taught from pairs with English, where the row `seen` has them."""
    from_english = {case.language: of_half(result["asked"]["taught"], half) for case, result in seen}
    languages: dict[str, Any] = {}
    shares = []
    for case, result in done:
        asked = of_half(result["asked"]["taught"], half)
        before = {name: ranks for name, ranks in from_english.get(case.language, {}).items() if name in asked}
        shares.append(figures.share(asked, english))
        languages[f"{case.language} from {case.pivot}"] = {
            "pairs": result["pairs"],
            **figures.compare_with_english(asked, english),
            "from English": {gallery: _to_json(figures.measure_recall(before, gallery)) for gallery in GALLERIES},
        }
    return {"mean": {"share": _to_json(figures.compute_mean(shares))}, "languages": languages}


def _report_adapter(by_row: Mapping[Row, Done], half: Half) -> dict[str, Any]:
    """Return what each adapter gains over rows alone, of the languages that have both."""
    alone = {(case.row, case.language): result for row in ("seen", "held_out") for case, result in by_row[row]}
    found: dict[str, Any] = {}
    for adapter in dict.fromkeys(case.adapter for case, _ in by_row["adapter"]):
        both = [
            (alone["seen", case.language], alone["held_out", case.language], result)
            for case, result in by_row["adapter"]
            if case.adapter == adapter and {("seen", case.language), ("held_out", case.language)} <= {*alone}
        ]
        asked: dict[str, list[tuple[Asked, Asked]]] = {"seen": [], "held_out": [], "known words": []}
        for seen, held, result in both:
            ours, known = result["asked"], result["known"]
            asked["seen"].append((of_half(seen["asked"]["taught"], half), of_half(ours["taught"], half)))
            for name, among in (("held_out", None), ("known words", known)):
                asked[name].append((of_half(held["asked"]["new"], half, among), of_half(ours["new"], half, among)))
        found[str(adapter)] = {
            "languages": len(both),
            **{name: _report_gains(*zip(*each, strict=True)) for name, each in asked.items() if each},
        }
    return found


def _report_gains(before: Sequence[Asked], after: Sequence[Asked]) -> dict[str, Any]:
    gains = {f"R@{k}": figures.compare_recalls(before, after, k) for k in (1, figures.TEN)}
    return {"captions": sum(map(len, after)), **gains}


def _report_few(done: Done, english: Asked, half: Half) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pairs in sorted({case.pairs for case, _ in done}):
        some = [(case, result) for case, result in done if case.pairs == pairs]
        asked = {which: [of_half(result["asked"][which], half) for _, result in some] for which in ("taught", "new")}
        found[str(pairs)] = {
            "mean": {
                which: {
                    "R@10": _to_json(figures.compute_mean(map(figures.measure_recall, each))),
                    "share": _to_json(figures.compute_mean(figures.share(one, english) for one in each)),
                }
                for which, each in asked.items()
            },
            **{which: _report_languages(some, which, english, half) for which in asked},
        }
    return {"pairs": found}


def _report_languages(done: Done, which: str, english: Asked, half: Half) -> dict[str, Any]:
    return {
        case.language: {
            "pairs": result["pairs"],
            **figures.compare_with_english(of_half(result["asked"][which], half), english),
        }
        for case, result in sorted(done, key=lambda each: each[0].language)
    }


def _to_json(figure: figures.Figure | None) -> dict[str, float] | None:
    return None if figure is None else figure.as_json()
