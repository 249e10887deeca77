"""Figures of report pages as a browser shows them: errors, requests, cut-off parts, contrast, filter, keyboard."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.figures.browser import Tab, browser, find_browser
from tests.figures.figure import Figure, exit_code
from tests.figures.people_runs import in_progress, made_runs
from tests.unit.run_report.stored_runs import HOSTILE, whole_run

WIDTHS_PX = (1_280, 390)
LEAST_CONTRAST = 4.5
KEPT = "LACLIP_PEOPLE_RUNS"
"""Environment variable: a directory that keeps runs, pages and screenshots; without it they are removed."""
_MOST_MIB = 10.0

_CUT_OFF = """
(() => {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) found.push(`page ${root.scrollWidth} > ${innerWidth}`);
  for (const each of document.querySelectorAll("body *")) {
    if (each.closest("svg") && each.tagName !== "svg") continue;
    const style = getComputedStyle(each);
    if (style.display === "inline" || style.display === "none" || !each.clientWidth) continue;
    const scrolls = /auto|scroll/.test(style.overflowX);
    const isReachable = each.tabIndex >= 0 || each.querySelector("a, input, summary");
    if (each.scrollWidth > each.clientWidth + 1 && !(scrolls && isReachable)) {
      if (style.overflowX === "hidden" || scrolls) found.push(`${each.tagName}.${each.className}`);
    }
    const box = each.getBoundingClientRect();
    const inScroll = each.closest(".scroll, .plot, pre");
    if (!inScroll && (box.right > innerWidth + 1 || box.left < -1)) found.push(`${each.tagName}.${each.className} out`);
  }
  return [...new Set(found)];
})()
"""

_CONTRASTS = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [x, y, z] = [r, g, b].map((v) => linear(v / 255));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const each = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ["SCRIPT", "STYLE", "OPTION"].includes(each.tagName)) continue;
    const style = getComputedStyle(each);
    if (!each.checkVisibility()) continue;
    const colour = each.closest("svg") ? (style.fill === "none" ? style.color : style.fill) : style.color;
    const [a, b] = [light(rgba(colour)), light(ground(each))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), `${each.tagName}.${each.className.baseVal ?? each.className}`]);
  }
  return found.sort((x, y) => x[0] - y[0])[0] || [21, "no text"];
})()
"""

_FILTER = """
(() => {
  const gallery = document.querySelector(".gallery");
  if (!gallery) return null;
  const shown = () => [...gallery.querySelectorAll(".card")].filter((card) => card.checkVisibility());
  const words = gallery.querySelector(".filter input");
  const set = (element, value) => {
    element.value = value; element.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const all = shown().length;
  const word = gallery.querySelector(".caption").textContent.trim().slice(0, 12).toLowerCase();
  set(words, word);
  const byText = shown();
  const fits = byText.every((card) => card.textContent.toLowerCase().includes(word));
  set(words, "no caption holds this");
  const none = shown().length;
  set(words, "");
  const results = [fits && byText.length > 0 && none === 0 && shown().length === all];
  for (const choice of gallery.querySelectorAll(".filter select")) {
    for (const option of [...choice.options].slice(1)) {
      set(choice, option.value);
      const cards = shown();
      const items = cards.flatMap((card) => [...card.querySelectorAll("li[data-set]")])
        .filter((item) => item.checkVisibility());
      const right = (item) => choice.name === "run" || item.dataset[choice.name] === option.value;
      results.push(cards.length > 0 && items.length > 0 && items.every(right));
    }
    set(choice, "");
  }
  results.push(shown().length === all && gallery.querySelector("output").textContent.startsWith(String(all)));
  return results.every(Boolean);
})()
"""

_TAB_STOPS = """
(() => {
  const all = [...document.querySelectorAll("a[href], input, select, button, summary, [tabindex='0']")]
    .filter((each) => each.checkVisibility());
  all.forEach((each, number) => { each.dataset.stop = number; });
  return all.length;
})()
"""


@dataclass
class Seen:
    """What one page did, over widths and themes."""

    errors: int = 0
    requests: int = 0
    cut_off: int = 0
    contrast: float = 21.0
    filters: bool = True
    missed_stops: int = 0
    closed_texts: int = 0
    """Folded texts that Enter does not open."""


def pages(show: int) -> Iterator[Figure]:
    """The pages of the demo, of real pictures with a real small model, of a sweep, of a run in progress."""
    path = find_browser()
    if path is None:
        print("skipped: there is no Chromium here (Debian: apt-get install chromium)")
        return
    kept = os.environ.get(KEPT)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(kept or temporary)
        directory.mkdir(parents=True, exist_ok=True)
        runs = made_runs(directory)
        made = {"demo": [runs["demo"]], "emoji": [directory / "emoji.yaml"], "sweep": [runs["sweep"]]}
        with in_progress(directory) as running:
            made["running"] = [running]
            written = {name: _report(directory, name, targets) for name, targets in made.items()}
        whole_run(directory / "stored", HOSTILE)
        written["hostile"] = _report(directory, "hostile", [directory / "stored" / "run"])
        for name, code in written.items():
            yield exit_code(show, f"{name}: exit code of laclip report", code)
        files = {name: directory / f"{name}.html" for name in made} | {"hostile": directory / "hostile.html"}
        files["the demo's own report"] = runs["demo"] / "report.html"
        files["the sweep's own page"] = runs["sweep"] / "sweep.html"
        files["a preview"] = runs["preview"]
        with browser(path) as new_tab:
            for name, file in files.items():
                yield from _figures(show, name, file, _look(new_tab, file, directory))


def _report(directory: Path, name: str, targets: list[Path]) -> int:
    command = [sys.executable, "-m", "laclip_ray", "report", *map(str, targets)]
    return subprocess.run([*command, "--page", str(directory / f"{name}.html")], check=False).returncode


def _look(new_tab: Any, file: Path, directory: Path) -> Seen:
    """Open a page at every width, in both themes."""
    seen = Seen()
    for width_px in WIDTHS_PX:
        for is_dark in (False, True):
            tab: Tab = new_tab()
            tab.open(file, width_px, is_dark)
            where = f"{file.name}, {width_px} px, {'dark' if is_dark else 'light'}"
            contrast, weakest = tab.evaluate(_CONTRASTS)
            if contrast < LEAST_CONTRAST:
                print(f"{where}: contrast {contrast:.2f} of {weakest}")
            seen.contrast = min(seen.contrast, contrast)
            if cut_off := tab.evaluate(_CUT_OFF):
                print(f"{where}: cut off: {cut_off[:5]}")
            seen.cut_off += len(cut_off)
            seen.filters = seen.filters and tab.evaluate(_FILTER) is not False
            seen.missed_stops += _missed_stops(tab)
            seen.closed_texts += _stays_closed(tab)
            theme = "dark" if is_dark else "light"
            tab.screenshot(directory / f"{file.stem}-{width_px}-{theme}.png", height_px=12_000)
            seen.errors += len(tab.errors)
            seen.requests += len(tab.requests)
            for problem in (*tab.errors, *tab.requests):
                print(f"{where}: {problem}")
    return seen


def _missed_stops(tab: Tab) -> int:
    """How many controls and scrolling regions the Tab key does not reach."""
    stops = tab.evaluate(_TAB_STOPS)
    tab.evaluate("window.scrollTo(0, 0)")
    reached = set()
    for _ in range(stops + 5):
        tab.press("Tab")
        reached.add(tab.evaluate("document.activeElement.dataset.stop ?? null"))
    return int(stops - len(reached - {None}))


def _stays_closed(tab: Tab) -> bool:
    """Whether Enter does not open the first folded text; False without one."""
    if not tab.evaluate('(document.querySelector(".long summary")?.focus(), !!document.querySelector(".long"))'):
        return False
    tab.press("Enter")
    return not tab.evaluate('document.querySelector(".long").open')


def _figures(show: int, name: str, file: Path, seen: Seen) -> Iterator[Figure]:
    size_mib = file.stat().st_size / 2**20
    yield Figure(show, f"{name}: size", size_mib, "MiB", at_most=_MOST_MIB)
    yield Figure(show, f"{name}: console errors", seen.errors, "", at_most=0)
    yield Figure(show, f"{name}: requests", seen.requests, "", at_most=0)
    yield Figure(show, f"{name}: elements cut off", seen.cut_off, "", at_most=0)
    yield Figure(show, f"{name}: least contrast of text", seen.contrast, "", at_least=LEAST_CONTRAST)
    yield Figure(show, f"{name}: filter works", float(seen.filters), "", at_least=1, at_most=1)
    yield Figure(show, f"{name}: controls that Tab misses", seen.missed_stops, "", at_most=0)
    yield Figure(show, f"{name}: folded texts that Enter does not open", seen.closed_texts, "", at_most=0)
