"""The status page in a real browser: it shows the status, runs nobody's script but its own, and looks up nothing."""

import html.parser
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from status_samples import HOSTILE, listening, sample

from mpcdp.status import Progress, listener

pytestmark = pytest.mark.slow

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
)


class _Page(html.parser.HTMLParser):
    """What is in a document: its elements, and its texts by the id around them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img", "link", "input"):
            self._ids.append(dict(attrs).get("id") or tag)

    def handle_endtag(self, tag: str) -> None:
        if self._ids:
            self._ids.pop()

    def handle_data(self, data: str) -> None:
        for name in self._ids:
            self.texts[name] = self.texts.get(name, "") + data


def _browse(port: int, folder: Path, *options: str, path: str = "/") -> tuple[str, str]:
    """Open a page and return what became of it, and what the browser complained about."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    command = [program, *_QUIET, f"--user-data-dir={folder / 'profile'}", *options, f"http://127.0.0.1:{port}{path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(console)


def test_it_shows_the_status(tmp_path: Path) -> None:
    with listening(sample(Progress())) as port:
        text, complaints = _browse(port, tmp_path, "--dump-dom")
    page = _Page(text)
    assert page.texts["name"] == "party-1"
    assert page.texts["title"] == "party-1: running"
    assert page.texts["state"] == "running"
    cards = page.texts["cards"]
    for shown in ("12 of 40", "2 of 3", "hospital-1, hospital-2", "0.3", "1,048,576 free", "204,800 samples used"):
        assert shown in cards
    assert "the certificate for" in page.texts["refusals"]
    assert "could not close the session" in page.texts["notices"]
    assert "7,340,032" in page.texts["sent"]
    assert complaints == ""


def test_what_hostile_names_say_is_shown_and_not_done(tmp_path: Path) -> None:
    with listening(sample(Progress(), hostile=HOSTILE)) as port:
        text, complaints = _browse(port, tmp_path, "--dump-dom")
    page = _Page(text)
    assert page.texts["title"] == "party-1: running"
    assert HOSTILE in page.texts["refusals"]
    assert "hospital-2" + HOSTILE in page.texts["cards"]
    assert [tag for tag, _ in page.elements if tag in ("img", "b", "iframe")] == []
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert complaints == ""


def test_the_policy_stops_what_the_page_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were somebody's markup to get into the page after all, its script would not run."""
    page = listener._page()
    spoilt = page.replace("refresh();\n</script>", "document.title = 'owned'\n</script>")
    assert spoilt != page
    headers = listener._headers(page)
    monkeypatch.setattr(listener, "_page", lambda: spoilt)
    monkeypatch.setattr(listener, "_headers", lambda _: headers)
    status = sample(Progress())
    with listening(status) as port:
        text, complaints = _browse(port, tmp_path, "--dump-dom")
    assert _Page(text).texts["title"] == "mpcdp"
    assert "Content Security Policy" in complaints


def test_it_can_be_read_by_everybody(tmp_path: Path) -> None:
    """Language, headings, captions of tables and of bars; and the state is announced when it changes."""
    with listening(sample(Progress())) as port:
        text, _ = _browse(port, tmp_path, "--dump-dom")
    elements = _Page(text).elements
    assert ("html", {"lang": "en"}) in elements
    assert [tag for tag, _ in elements if tag in ("h1", "h2")] == ["h1", "h2", "h2", "h2"]
    assert all(attributes.get("scope") == "col" for tag, attributes in elements if tag == "th")
    assert all(attributes.get("aria-label") for tag, attributes in elements if tag == "progress")
    assert any(attributes.get("role") == "status" and attributes.get("id") == "state" for _, attributes in elements)
    assert all(attributes.get("aria-labelledby") for tag, attributes in elements if tag == "section")


@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_the_window(tmp_path: Path, width: int) -> None:
    picture = tmp_path / "page.png"
    with listening(sample(Progress())) as port:
        _browse(port, tmp_path, f"--screenshot={picture}", f"--window-size={width},900")
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">I", content[16:20])[0] == width
    assert len(set(content)) > 100
