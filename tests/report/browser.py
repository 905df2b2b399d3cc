"""Headless Chromium: what a page looks like, and what is on it."""

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

# Runs beside the page, which lets nothing in: tells what of the chart is there, is seen, and answers.
_PROBE = """<!DOCTYPE html><meta charset="utf-8"><style>body{margin:0}iframe{border:0;width:1280px;height:%(height)dpx}</style>
<iframe src="%(page)s"></iframe><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument, view = page.defaultView;
  const seen = (shape) => {
    const part = shape.querySelector("text.label") || shape.querySelector("circle, rect, text");
    const box = part.getBoundingClientRect();
    const top = page.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    const look = view.getComputedStyle(part);
    return box.width > 0 && look.visibility === "visible" && look.opacity !== "0" && top !== null && shape.contains(top);
  };
  const facts = (shape) => ({numbers: shape.dataset.numbers || "", channel: shape.dataset.channel || "", seen: seen(shape)});
  const found = {
    messages: [...page.querySelectorAll(".arrow, .step")].map(facts),
    channels: [...page.querySelectorAll("g.channel")].map((lane) => ({name: lane.dataset.channel, seen: seen(lane.querySelector(".name"))})),
    rows: [...page.querySelectorAll("tr[data-channel]")].map((row) => row.dataset.channel),
    scripts: page.querySelectorAll("script").length,
    wide: page.documentElement.scrollWidth,
  };
  const arrow = page.querySelector(".arrow.migration"), hover = page.getElementById("hover");
  if (arrow) {
    found.before = hover.hidden;
    arrow.querySelector("text.label").dispatchEvent(new view.PointerEvent("pointermove", {bubbles: true, clientX: 300, clientY: 300}));
    found.hover = hover.hidden ? null : hover.textContent;
    const picture = page.querySelector(".stage svg"), wide = () => picture.getBoundingClientRect().width, first = wide();
    page.querySelector('button[aria-label="Larger"]').click();
    found.larger = wide() / first;
    const stage = page.querySelector(".stage");
    const press = (key) => stage.dispatchEvent(new view.KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
    press("0");
    found.again = wide() / first;
    press("+");
    found.pressed = wide() / first;
    stage.dispatchEvent(new view.WheelEvent("wheel", {deltaY: 100, ctrlKey: true, bubbles: true, cancelable: true}));
    found.wheeled = wide() / first;
  }
  document.body.textContent = "PROBE" + btoa(unescape(encodeURIComponent(JSON.stringify(found)))) + "END";
};
</script>
"""


def _chromium(*arguments: str, profile: Path) -> subprocess.CompletedProcess[str]:
    call = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
    ]
    call += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}", *arguments]
    return subprocess.run(call, capture_output=True, text=True, encoding="utf-8", timeout=90, check=True)


def console(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a page said on its console: errors of scripts, and what its policy turned down."""
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def probe(page: Path, folder: Path, *, height: int = 6000) -> tuple[dict[str, Any], list[str]]:
    """What is on a page, and its console."""
    beside = folder / "probe.html"
    beside.write_text(_PROBE % {"page": page.as_uri(), "height": height}, encoding="utf-8")
    done = _chromium(
        "--allow-file-access-from-files",
        f"--window-size=1280,{height}",
        "--dump-dom",
        beside.as_uri(),
        profile=folder / "profile",
    )
    packed = re.search(r"PROBE([A-Za-z0-9+/=]*)END</body>", done.stdout)
    assert packed is not None, done.stderr
    found: dict[str, Any] = json.loads(base64.b64decode(packed[1]))
    return found, console(done)


def screenshot(page: Path, picture: Path, folder: Path, *, width: int, height: int, dark: bool) -> list[str]:
    """Take a picture of a page; its console."""
    done = _chromium(
        f"--window-size={width},{height}", f"--screenshot={picture}", f"--blink-settings=preferredColorScheme={int(not dark)}",
        page.as_uri(), profile=folder / "profile",
    )  # fmt: skip
    return console(done)
