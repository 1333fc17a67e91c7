"""The page in a real browser: axe-core finds nothing serious, nothing overflows a phone, nothing hostile runs.

Needs Chromium on the PATH, and for axe the file `axe.min.js` of the npm package `axe-core`, named by `AXE_JS`:

    npm install --prefix /tmp/axe axe-core
    AXE_JS=/tmp/axe/node_modules/axe-core/axe.min.js pytest tests/report/test_accessibility.py
"""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hostile import hostile_result
from shapes import SHAPES

from canary_audit.report import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(os.environ.get("AXE_JS", ""))
POLICY = '<meta http-equiv="Content-Security-Policy" content="">'
SCHEMES = {"dark": 0, "light": 1}

PROBE = """
document.querySelectorAll("details").forEach(details => { details.open = true; });
const say = value => {
  const answer = document.createElement("pre");
  answer.id = "answer";
  answer.textContent = JSON.stringify(value);
  document.body.replaceChildren(answer);
};
"""
AXE_PROBE = """
axe.run(document, {resultTypes: ["violations"]}).then(
  found => say(found.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html.slice(0, 120)).slice(0, 3)])),
  error => say(["error", String(error)]));
"""
WIDTH_PROBE = """
addEventListener("load", () => {
  const phone = document.querySelector("iframe").contentWindow;
  say([phone.innerWidth, phone.document.documentElement.scrollWidth]);
});
"""
ALARM_PROBE = "say([window.alarms, document.images.length, document.querySelectorAll('script').length]);"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH"),
]


def ask_browser(page, folder, *scripts, scheme="light"):
    """What the scripts `say` about the page, whose own policy against scripts is taken off for them."""
    open_page = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page)
    assert open_page != page
    probe = "".join(f"<script>{script}</script>" for script in (PROBE, *scripts))
    path = folder / "page.html"
    path.write_text(open_page.replace("</body>", f"{probe}</body>"), encoding="utf-8")
    dom = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", f"--user-data-dir={folder / 'profile'}", "--window-size=1200,900"),
            *(f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", "--virtual-time-budget=20000"),
            *("--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    answer = re.search(r'<pre id="answer">(.*?)</pre>', dom, re.DOTALL)
    assert answer is not None, dom[-2000:]
    return json.loads(html.unescape(answer[1]))


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: set AXE_JS to its axe.min.js")
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("shape", "verdict"),
    [
        ("several-groups", "FAIL"),
        ("clean", "PASS"),
        ("paper-estimates", "INCONCLUSIVE"),
        ("nothing", "ERROR"),
        ("private", "FAIL"),
        ("top-k", "FAIL"),
        ("text-only", "INCONCLUSIVE"),
    ],
)
def test_axe_finds_nothing(shape, verdict, scheme, tmp_path):
    page = render(SHAPES[shape]().model_copy(update={"verdict": verdict}), "html")
    assert ask_browser(page, tmp_path, AXE.read_text(encoding="utf-8"), AXE_PROBE, scheme=scheme) == []


@pytest.mark.parametrize("shape", ["several-groups", "no-training", "private", "top-k", "text-only"])
def test_only_tables_and_plots_scroll_sideways_on_a_phone(shape, tmp_path):
    page = render(SHAPES[shape](), "html").replace("<details>", "<details open>")
    frame = f'<iframe style="border: 0; width: 360px; height: 700px" srcdoc="{html.escape(page)}"></iframe>'
    width, needed = ask_browser(f"<!doctype html>{POLICY}<body>{frame}</body>", tmp_path, WIDTH_PROBE)
    assert width == 360
    assert needed <= width


def test_nothing_hostile_runs_even_without_the_content_policy(tmp_path):
    page = render(hostile_result(), "html").replace(
        "<title>", "<script>alert = () => { alarms += 1 }; alarms = 0</script><title>"
    )
    alarms, n_images, n_scripts = ask_browser(page, tmp_path, ALARM_PROBE)
    assert (alarms, n_images) == (0, 0)
    assert n_scripts == 3
