"""Draws a dashboard in Chromium with Grafana's own libraries and checks that every panel came out.

Starts serve.mjs itself, on the bundle that tests/grafana/setup made. Exit status 1 when a panel is missing, empty, in
error or over another time than its own, when no run is shaded, a link is not filled in, or the page threw.
"""

import argparse
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Page, ViewportSize, sync_playwright

HERE = Path(__file__).parent
BOARD = HERE.parents[1] / "dashboards" / "json" / "trainwatt-node.json"
WIDTH_PX = 1620
ROW_PX = 38
"""Height of one row of Grafana's grid, with its gap."""
ABOVE_PX = 50
SETTLE_MS = 1500
"""Chart animation and table layout settle after the data arrives; no event says when."""
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CRASHED = "An unexpected error happened"
"""What Grafana writes in place of a panel that threw while it was drawn."""
ALL_DONE = """titles => window.__panels && titles.every(t =>
    ['Done', 'Error'].includes(window.__panels[t]?.state))"""
CHOOSE_FIRST = """name => {
    const v = window.__root.state.$variables.state.variables.find(v => v.state.name === name);
    const first = v.state.options[0].value;
    window.__exprs = [];
    v.changeValueTo([first], [first], true);
    return first;
}"""
CHOOSE_ALL = """name => {
    const v = window.__root.state.$variables.state.variables.find(v => v.state.name === name);
    v.changeValueTo(['$__all'], ['All'], true);
}"""
LINKS = "() => [...document.querySelectorAll('section a[href^=\"/d/\"]')].map(a => a.getAttribute('href'))"


def main() -> int:
    """Exit status: 1 when something is wrong with the picture."""
    args = arguments()
    board = json.loads(args.dashboard.read_text("utf-8"))
    with serving(args.prometheus, args.dashboard) as url:
        problems = look(url, board, args)
    for problem in problems:
        print("FAIL", problem)  # noqa: T201  (a program speaks by print)
    return 1 if problems else 0


def arguments() -> argparse.Namespace:
    """What to draw, from where, into which file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dashboard", type=Path, default=BOARD)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--range", help="time range to draw, such as 5m, instead of the dashboard's own")
    parser.add_argument("--scrape-s", type=float, default=1, help="scrape interval of the Prometheus")
    parser.add_argument("--screenshot", type=Path, help="write a PNG here")
    parser.add_argument("--grid-rows", type=int, help="draw only so many rows of Grafana's grid, from the top")
    parser.add_argument("--interact", action="store_true", help="also change a variable and see new queries")
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM", "/usr/bin/chromium"))
    parser.add_argument("--timeout-s", type=float, default=30)
    return parser.parse_args()


@contextlib.contextmanager
def serving(prometheus: str, dashboard: Path) -> Iterator[str]:
    """Serve the bundle beside the dashboard and a way to Prometheus, on a free port; the base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    program = ["node", "serve.mjs", str(port), prometheus, str(dashboard.resolve())]
    server = subprocess.Popen(program, cwd=HERE)
    try:
        wait_until_up(url)
        yield url
    finally:
        server.terminate()
        server.wait(10)


def wait_until_up(url: str, within_s: float = 10.0) -> None:
    """Return once the server answers. Raises OSError when it does not."""
    ends_at = time.monotonic() + within_s
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            if time.monotonic() > ends_at:
                raise
            time.sleep(0.1)
        else:
            return


def look(url: str, board: dict[str, Any], args: argparse.Namespace) -> list[str]:
    """Draw the board and tell what is wrong with it."""
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    rows = args.grid_rows or max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    viewport = ViewportSize(width=WIDTH_PX, height=ABOVE_PX + rows * ROW_PX)
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=FLAGS)
        page = browser.new_page(viewport=viewport)
        page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
        page.goto(f"{url}?scrape={args.scrape_s:g}" + (f"&from=now-{args.range}" if args.range else ""))
        problems += check_panels(page, panels, args.timeout_s)
        problems += check_spans(page, board, args.timeout_s)
        if not args.grid_rows:  # the engine draws no table that is out of sight
            problems += check_links(page, panels, args.timeout_s)
        if args.interact:
            for variable in board["templating"]["list"]:
                if variable["type"] == "query":
                    problems += choose(page, variable["name"], panels, args.timeout_s)
        if args.screenshot:
            page.wait_for_timeout(SETTLE_MS)
            page.screenshot(path=args.screenshot)
        browser.close()
    return problems


def check_panels(
    page: Page, panels: Sequence[dict[str, Any]], timeout_s: float, *, may_be_empty: bool = False
) -> Iterator[str]:
    """Wait for every panel, and name those that are missing, empty, in error or over another time than their own."""
    with contextlib.suppress(Error):  # a panel that never comes is named below
        page.wait_for_function(ALL_DONE, arg=[panel["title"] for panel in panels], timeout=timeout_s * 1000)
    drawn = page.evaluate("() => window.__panels || {}")
    for panel in panels:
        title = panel["title"]
        seen = drawn.get(title)
        if seen is None:
            yield f"{title}: not drawn"
        elif seen["state"] != "Done":
            yield f"{title}: {seen['state']} {seen.get('error') or ''}"
        elif not seen["points"] and not may_be_empty:
            yield f"{title}: no data"
        elif panel.get("timeFrom", seen["from"]) != seen["from"]:
            yield f"{title}: from {seen['from']}, not {panel['timeFrom']}"
        elif page.locator("section", has_text=title).filter(has_text=CRASHED).count():
            yield f"{title}: {CRASHED}"
        elif not may_be_empty:
            print(f"{title}: {seen['series']} series, {seen['points']} points")  # noqa: T201


def check_spans(page: Page, board: dict[str, Any], timeout_s: float) -> Iterator[str]:
    """Every annotation of the board that asks Prometheus shades something."""
    for annotation in board["annotations"]["list"]:
        name = annotation["name"]
        if annotation["enable"] and annotation.get("expr"):
            try:
                page.wait_for_function("name => window.__spans?.[name]?.length", arg=name, timeout=timeout_s * 1000)
            except Error:
                yield f"annotation {name}: nothing to shade"
            else:
                print(f"annotation {name}: {page.evaluate('name => window.__spans[name]', name)}")  # noqa: T201


def check_links(page: Page, panels: Sequence[dict[str, Any]], timeout_s: float) -> Iterator[str]:
    """Cells that lead to another board have its address, everything in it filled in."""
    for uid in {match[1] for panel in panels for match in re.finditer(r'"/d/([\w-]+)\?', json.dumps(panel))}:
        if not (BOARD.parent / f"{uid}.json").exists():
            yield f"links lead to {uid}, which is no board"
        try:
            page.wait_for_selector(f'section a[href^="/d/{uid}?"]', state="attached", timeout=timeout_s * 1000)
        except Error:
            yield f"no cell leads to {uid}"
    for address in page.evaluate(LINKS):
        if "$" in address:
            yield f"{address}: not filled in"


def choose(page: Page, name: str, panels: Sequence[dict[str, Any]], timeout_s: float) -> Iterator[str]:
    """Choose one value of a variable, then all again: it must be in the queries that follow, and no panel is in error.

    A panel may be empty meanwhile: a zone without a live feed has no forecast.
    """
    chosen = page.evaluate(CHOOSE_FIRST, name)
    wanted = f'{name}=~"{chosen}"'
    try:
        page.wait_for_function(
            "wanted => window.__exprs.some(e => e.includes(wanted))", arg=wanted, timeout=timeout_s * 1000
        )
    except Error:
        yield f"no query carried {wanted} after the variable changed"
    yield from check_panels(page, panels, timeout_s, may_be_empty=True)
    page.evaluate(CHOOSE_ALL, name)
    yield from check_panels(page, panels, timeout_s, may_be_empty=True)


if __name__ == "__main__":
    sys.exit(main())
