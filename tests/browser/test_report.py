"""The report page of a version: figures and plots, in both colour schemes, narrow, and with the keyboard."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.site import Site
from tests.browser.test_languages import give_key


def report(site: Site, number: int = 1) -> dict[str, Any]:
    return dict(site.client.get(f"/v1/versions/{number}/report").json())


def open_report(page: Page, number: int = 1) -> Page:
    page.goto(f"/versions/{number}/report")
    expect(page.locator("h1")).to_be_visible()
    return page


def test_languages_and_heat_map_lead_to_the_report_and_it_to_the_same_parts(page: Page) -> None:
    page.goto("/#languages")
    page.locator("#languages-body summary", has_text="Details Arabic").click()
    parts = page.locator("header nav a").all_inner_texts()
    page.get_by_role("link", name="Report of Arabic, version 1").click()
    expect(page).to_have_url(re.compile(r"/versions/1/report$"))
    expect(page.locator("h1 bdi")).to_have_text("العربية")
    expect(page.locator("h1 bdi")).to_have_attribute("dir", "rtl")
    expect(page.locator(".verdict")).to_contain_text("This version is used for Arabic now.")

    page.goto("/#administration")
    give_key(page)
    page.locator(".heat tbody th a").first.click()
    expect(page.locator("h1 bdi")).to_have_text("العربية")

    assert page.locator("header nav a").all_inner_texts() == parts


def test_figures_scale_and_confusion_are_those_of_the_json_and_lines_are_visible_in_the_dark(
    page: Page, site: Site
) -> None:
    measured = report(site)["report"]
    open_report(page)
    figures = page.locator(".figures .big")
    expect(figures.nth(0)).to_have_text(f"{measured['t2i']['R@1'] * 100:.1f} %")
    expect(figures.nth(2)).to_have_text(f"{measured['fertility']['per_word']:.2f}")
    expect(figures.nth(4)).to_have_text(f"{measured['shared']['so_far']['AA'] * 100:.1f} %")
    ten = page.locator(".recall tbody tr").last.locator(".number")
    expect(ten).to_have_text([f"{measured[way]['R@10'] * 100:.1f}" for way in ("t2i", "i2t")])
    found = f"Searches find {report(site)['index']['share'] * 100:.1f} % of the ten nearest pictures"
    expect(page.get_by_text(found)).to_be_visible()

    english = measured["shared"]["languages"]["en"]
    row = page.locator(".moves tr[data-language=en]")
    scale = row.locator(".scale")
    expect(scale).to_have_attribute("aria-label", re.compile(f"{english['before']['R@1'] * 100:.1f} before"))
    box, dot = scale.bounding_box(), row.locator(".dot.after").bounding_box()
    assert box and dot
    assert (dot["x"] + dot["width"] / 2 - box["x"]) / box["width"] == pytest.approx(english["after"]["R@1"], abs=0.02)
    page.evaluate("document.documentElement.dir = 'rtl'")  # its dots stay where they are
    ends = page.evaluate("[...document.querySelector('.ends').children].map((end) => end.getBoundingClientRect().x)")
    assert ends == sorted(ends)
    page.evaluate("document.documentElement.dir = 'ltr'")

    detected = measured["detected"]
    rows = page.locator(".confusion tbody tr")
    expect(rows).to_have_count(len(detected))
    share = detected["ar"].get("ar", 0) / sum(detected["ar"].values())
    expect(rows.first.locator("td.own")).to_have_text(re.compile(rf"^(>99|{share * 100:.0f})$"))

    page.emulate_media(color_scheme="dark")
    ground, drawn = page.evaluate(
        """[getComputedStyle(document.body).backgroundColor,
            getComputedStyle(document.querySelector(".dot.after")).backgroundColor]"""
    )
    dark, light = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ground, drawn))
    assert dark < 150 < 500 < light

    expect(open_report(page, 0).locator("#report")).to_contain_text("was not trained here")
    page.goto("/versions/999/report")
    expect(page.locator(".sorry")).to_contain_text("version_not_found")


def test_after_a_second_language_the_chain_is_drawn(page: Page, site: Site, indonesian: int) -> None:
    measured = [step for step in report(site, indonesian)["chain"] if step["AA"] is not None]
    open_report(page, indonesian)
    expect(page.locator(".chain circle.AA")).to_have_count(len(measured))
    expect(page.locator(".steps td.number").first).to_have_text(f"{measured[0]['AA'] * 100:.1f}")
    page.locator(".steps a").first.click()
    expect(page.locator("h1 bdi")).to_have_text("العربية")


def test_wide_tables_scroll_with_the_keyboard_and_the_page_fits_a_narrow_window(page: Page) -> None:
    page.set_viewport_size({"width": 340, "height": 700})
    open_report(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    region = page.get_by_role("region", name="Effect on the other languages")
    expect(region).to_have_attribute("data-after", "")  # it fades where more of it follows
    region.focus()
    page.keyboard.press("ArrowRight")
    # a keyboard scrolls smoothly, so not at once; page.wait_for_function needs eval, which the page's policy forbids
    scrolled = page.evaluate(
        """new Promise((done) => {
            const region = document.activeElement;
            region.addEventListener("scroll", () => done(region.scrollLeft), {once: true});
            setTimeout(() => done(region.scrollLeft), 5000);
        })"""
    )
    assert scrolled > 0
    expect(region).to_have_attribute("data-before", "")


def test_a_version_that_is_not_in_the_shared_table_says_what_would_have_been(page: Page, site: Site) -> None:
    unmeasured = ["en"]

    def apart(route: Route) -> None:
        answer = route.fetch()
        report = answer.json()
        report["report"]["shared"]["unmeasured"] = unmeasured
        route.fulfill(response=answer, json={**report, "moved": False})

    open_report(page)
    expect(page.locator(".verdict")).to_contain_text("It became the shared table")
    expect(page.get_by_role("heading", name="Effect on the other languages", exact=True)).to_be_visible()
    page.route("**/v1/versions/1/report", apart)
    open_report(page)
    expect(page.locator(".verdict")).to_contain_text("another one would have lost too much")
    expect(page.locator(".figures .hint", has_text="would have been")).to_have_count(2)
    expect(page.get_by_role("heading", name="What the effect on the other languages would have been")).to_be_visible()
    expect(page.locator(".legend .pair", has_text="what would have been")).to_be_visible()
    unmeasured.append("cy")
    open_report(page)
    expect(page.locator(".verdict")).to_contain_text("what Welsh would lose with Arabic in the shared table cannot be")


def test_the_report_speaks_the_language_of_the_page(chromium: Browser, site: Site) -> None:
    with chromium.new_context(base_url=site.url, locale="de-AT", viewport={"width": 390, "height": 800}) as context:
        page = open_report(context.new_page())
        expect(page.locator(".verdict")).to_contain_text("änderte sich die Trefferquote um")
        expect(page.locator("#report span[lang=en]:visible")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.locator(".verdict ~ details summary").click()
        expect(page.locator(".verdict ~ details [lang=en]")).to_contain_text("Arabic is read")
