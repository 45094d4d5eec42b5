"""The report in a real browser, where there is one: CHROMIUM or one on the PATH."""

import html
import io
import json
import os
import re
import shutil
import subprocess
from base64 import b64decode

import pytest
import soundfile

from pretrain.report.comparison import write_comparison
from pretrain.report.page import write_report
from tests.pretrain.report.rundir import make

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH (Debian: apt-get install chromium)")

FIRST = "<script>window.wrong = []; onerror = (text) => wrong.push(text);"
FIRST += (
    "addEventListener('securitypolicyviolation', (e) => wrong.push(e.violatedDirective + ' ' + e.blockedURI));</script>"
)
# What a policy forbids is told a moment after it was asked for.
LAST = """<script>addEventListener("load", () => setTimeout(async () => {
const soon = (wait) => Promise.race([wait, new Promise((done) => setTimeout(done, 1500))]);
// Time is virtual, and decoding sound takes real time: the bytes are looked at by the test.
const sounds = [...document.querySelectorAll("audio")].filter((sound) => {
  const button = document.querySelector(`button[data-sound="${sound.id}"]`), box = button.getBoundingClientRect();
  return sound.canPlayType(sound.src.slice(5, sound.src.indexOf(";"))) && box.width > 15;
}).map((sound) => sound.src);
const thumbs = await Promise.all([...document.querySelectorAll(".thumb")].map(async (thumb) => {
  const picture = new Image(), box = thumb.getBoundingClientRect();
  picture.src = getComputedStyle(thumb).backgroundImage.slice(5, -2);
  await soon(picture.decode().catch(() => {}));
  return picture.naturalWidth > 0 && box.width > 20 && box.height > 20;
}));
const sides = [...document.querySelectorAll(".hit")].map((hit) => hit.querySelectorAll(".cell").length);
const figures = [...document.querySelectorAll("figure")].map((figure) => {
  const plot = figure.querySelector(".plot"), box = plot.getBoundingClientRect();
  plot.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + box.width / 2, clientY: box.top + 5}));
  const pictures = figure.querySelectorAll(".tip .thumb").length, map = figure.matches(".map");
  const tip = figure.querySelector(".tip")?.innerText ?? "";
  const tipBox = figure.querySelector(".tip")?.getBoundingClientRect();
  plot.dispatchEvent(new PointerEvent("pointerleave"));
  const aside = ".grid, .axis, .mark, .chance" + (map ? "" : ", .dots");
  const paths = [...figure.querySelectorAll("path")].filter((p) => !p.matches(aside));
  const dots = paths.reduce((sum, p) => sum + p.getAttribute("d").split("M").length - 1, 0);
  const drawn = paths.map((p) => p.getBoundingClientRect()).filter((r) => r.width > box.width / 8 && r.height >= 0);
  const labels = [...figure.querySelectorAll(".plot span")].map((s) => s.getBoundingClientRect());
  return {map, dots, pictures, title: figure.querySelector("figcaption").innerText,
    width: box.width, height: box.height,
    lines: paths.length, drawn: drawn.length, tip, gone: !figure.querySelector(".tip"),
    inside: tipBox && tipBox.left >= 0 && tipBox.right <= innerWidth,
    labels: labels.length, cut: labels.filter((r) => r.left < 0 || r.right > innerWidth).length};
});
const buttons = document.querySelectorAll("button:not(:disabled)").length;
const found = {wrong, figures, sounds, thumbs, sides, buttons, width: innerWidth,
  scroll: document.documentElement.scrollWidth,
  requests: performance.getEntriesByType("resource").map((e) => e.name),
  paper: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color};
document.body.innerHTML = "";
document.body.append(Object.assign(document.createElement("pre"), {id: "found", textContent: JSON.stringify(found)}));
}, 200));</script></body>"""


def look(page, folder, width, dark=False):
    """What the page is like in the browser at that width."""
    text = page.read_text().replace("<main>", FIRST + "<main>", 1).replace("</body>", LAST, 1)
    (folder / "looked.html").write_text(text)
    # A window has a least width; a frame has none.
    frame = f'<iframe id="f" src="looked.html" style="width:{width}px;height:900px;border:0"></iframe>'
    copy = "<script>f.onload = () => setInterval(() => { const g = f.contentDocument.getElementById('found');"
    copy += "if (g && !document.getElementById('found')) document.body.append(g.cloneNode(true)) }, 100)</script>"
    (folder / "frame.html").write_text(f"<!doctype html><body style='margin:0'>{frame}{copy}</body>")
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={folder / 'profile'}", "--window-size=1300,1000", "--virtual-time-budget=5000"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    command += ["--dump-dom", (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    return json.loads(html.unescape(found[1]))


def brightness(colour):
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 765


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (375, False)])
def test_all_figures_are_drawn_without_errors_or_requests(tmp_path, width, dark):
    page = write_report(make(tmp_path / "run"))
    assert page.stat().st_size < 3e6
    found = look(page, tmp_path, width, dark)
    assert found["wrong"] == []
    assert found["requests"] == []
    assert found["width"] == width
    assert found["scroll"] <= width  # nothing sticks out
    figures, maps = ([one for one in found["figures"] if one["map"] == kind] for kind in (False, True))
    assert len(figures) == 10
    assert [one["title"].split("\n")[0] for one in maps] == ["text", "image", "audio"]
    for figure in maps:
        assert figure["dots"] == 40
        assert figure["drawn"] == figure["lines"] == 1, figure
        assert figure["pictures"] == 2  # of the sample's picture and its sound
        assert "caption <" in figure["tip"]
        assert figure["inside"], figure
        assert figure["gone"]
    assert found["sides"] == [4] * 12
    assert len(found["thumbs"]) == 4 * (3 + 4 + 1)
    assert all(found["thumbs"])
    assert len(found["sounds"]) == 4
    assert found["buttons"] > 8
    for sound in found["sounds"]:
        assert 0.9 < soundfile.info(io.BytesIO(b64decode(sound.partition(",")[2]))).duration < 1.1
    check(figures)
    assert (brightness(found["paper"]) < 0.3) == dark
    assert abs(brightness(found["paper"]) - brightness(found["ink"])) > 0.6


def check(figures):
    """Lines that are all drawn, what pointing at them says, labels that are not cut off."""
    for figure in figures:
        assert figure["lines"] > 0
        assert figure["drawn"] == figure["lines"], figure
        assert figure["width"] > 200
        assert figure["height"] > 100
        assert "step" in figure["tip"]
        assert figure["inside"], figure
        assert figure["gone"]
        assert figure["labels"] >= 4
        assert figure["cut"] == 0, figure


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (375, True)])
def test_the_page_of_several_runs_is_drawn_as_well(tmp_path, width, dark):
    folders = [make(tmp_path / f"a-run-with-a-long-name-{n}", steps=200 + 100 * n, plain=True) for n in range(3)]
    page = write_comparison(folders, tmp_path / "all.html")
    found = look(page, tmp_path, width, dark)
    assert found["wrong"] == found["requests"] == []
    assert found["scroll"] <= width
    assert len(found["figures"]) == 9
    check(found["figures"])
    assert all(figure["lines"] == 3 for figure in found["figures"])
    assert all("a-run-with-a-long-name-2" in figure["tip"] or "-2:" in figure["tip"] for figure in found["figures"])
    assert (brightness(found["paper"]) < 0.3) == dark
    assert abs(brightness(found["paper"]) - brightness(found["ink"])) > 0.6


def test_the_test_sees_what_is_wrong(tmp_path):
    page = write_report(make(tmp_path / "run"))
    broken = page.read_text().replace(
        "<main>", '<main><img src="http://127.0.0.1:9/a.png"><script>nothing()</script>', 1
    )
    for right, wrong in (
        ('class="train" d="M', 'class="train" d="'),
        ('class="class0 dots" d="M', 'class="x" d="'),
        ("data:image/jpeg;base64,", "data:image/jpeg;base64,A"),
        ("audio/flac;base64,", "x;,"),
    ):
        assert right in broken
        broken = broken.replace(right, wrong)
    page.write_text(broken)
    found = look(page, tmp_path, 1200)
    assert any("nothing is not defined" in text for text in found["wrong"])
    assert any("img-src" in text for text in found["wrong"])
    for kind in (False, True):
        assert any(figure["drawn"] < figure["lines"] for figure in found["figures"] if figure["map"] == kind)
    assert not any(found["thumbs"])
    assert not any(found["sounds"])
