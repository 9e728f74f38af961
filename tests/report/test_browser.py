"""The page in a real browser: every figure drawn, no error, no request, nothing too wide."""

import base64
import json
import re
import shutil
import subprocess

import pytest

from research.report import command
from tests.report.synthetic import PARTS, write_study

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --virtual-time-budget=30000"
).split()

# Listens before anything else runs; a request the page is not allowed to make is a violation.
LISTEN = """<script>
window.seen = [];
addEventListener("error", (event) => seen.push("error " + event.message));
addEventListener("unhandledrejection", (event) => seen.push("rejected " + event.reason));
addEventListener("securitypolicyviolation", (event) => seen.push("asked for " + event.blockedURI));
for (const level of ["error", "warn"]) console[level] = (...words) => seen.push(words.join(" "));
</script>"""
# Waits for the figures, sorts by loss, then leaves what it saw in the page.
REPORT = """<script>
const waiting = setInterval(() => {
  if (!document.body.dataset.drawn) return;
  clearInterval(waiting);
  const heads = [...document.querySelectorAll("#table th")];
  const column = heads.findIndex((head) => head.textContent === "loss");
  heads[column].querySelector("button").click();
  const rows = [...document.querySelectorAll("#table tbody tr")];
  const wide = [...document.querySelectorAll("body *")].filter((element) =>
    element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".scroll, pre"));
  const answer = {
    seen, drawn: Number(document.body.dataset.drawn), width: innerWidth,
    needed: document.documentElement.scrollWidth, wide: wide.map((e) => e.outerHTML.slice(0, 80)),
    charts: document.querySelectorAll(".chart svg.marks").length,
    losses: rows.map((row) => row.cells[column].dataset.v),
    background: getComputedStyle(document.body).backgroundColor,
  };
  parent.postMessage(btoa(JSON.stringify(answer)), "*");
}, 50);
</script>"""
# A browser's window is no narrower than 500 pixels; a frame inside it may be.
FRAME = """<!doctype html><meta name="color-scheme" content="light dark">
<iframe src="page.html" style="width: %dpx; height: 800px; border: 0"></iframe>
<pre id="answer"></pre>
<script>
addEventListener("message", ({ data }) => document.getElementById("answer").textContent = data);
</script>"""


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_study(folder, parts=PARTS[2:], diverged=("markov-24k-1e11-s0",))
    return command.write_report(folder, pictures=False).read_text()


def look(html: str, folder, width: int, dark: bool) -> dict:
    """Open a page and return what REPORT found in it."""
    page = folder / "page.html"
    # Vega's own source holds these tags too: the page's are the first and the last.
    start, head, rest = html.partition("<head>")
    rest, body, end = rest.rpartition("</body>")
    page.write_text("".join([start, head, LISTEN, rest, REPORT, body, end]))
    (folder / "frame.html").write_text(FRAME % width)
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    done = subprocess.run(
        [str(BROWSER), *FLAGS, scheme, f"--user-data-dir={folder / 'profile'}",
         "--window-size=1400,900", "--dump-dom", (folder / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    answer = re.search(r'<pre id="answer">([^<]+)</pre>', done.stdout)
    assert answer, done.stderr[-2000:]
    return json.loads(base64.b64decode(answer[1]))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: the page was not opened")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desktop", "phone"])
def test_page_in_a_browser(html, tmp_path, width, dark):
    answer = look(html, tmp_path, width, dark)
    assert answer["seen"] == []
    assert answer["drawn"] == answer["charts"] == html.count('class="chart"')
    assert answer["width"] == width
    assert answer["needed"] <= width and answer["wide"] == []
    losses = [float(value) for value in answer["losses"] if value]
    assert losses == sorted(losses)
    assert answer["losses"][-1] == "" and answer["losses"].count("") == 1
    assert answer["background"] == ("rgb(20, 25, 31)" if dark else "rgb(255, 255, 255)")
