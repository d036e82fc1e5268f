"""The page at GET / in a real browser: Chromium without a window, driven over its debugging pipe."""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import select
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import foretell as package
from conftest import PATIENCE, Server, model_path, serving
from foretell.config import WHEN
from foretell.serve import keys

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
# The browser wants its commands on descriptor 3 and writes its answers to 4.
AT_3_AND_4 = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
NAMES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]

PRESS = """body => new Promise(done => {
    const answer = document.getElementById("answer");
    new MutationObserver(() => {
        if (answer.textContent !== "…") done([answer.className, answer.innerText]);
    }).observe(answer, { childList: true, characterData: true, subtree: true });
    document.getElementById("body").value = body;
    document.getElementById("send").click();
})"""

CONTRASTS = """(() => {
    const linear = n => (n <= 0.03928 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
    const light = text => {
        const [r, g, b] = text.match(/[\\d.]+/g).map(n => linear(n / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = element => {
        const color = getComputedStyle(element).backgroundColor;
        return color === "rgba(0, 0, 0, 0)" ? ground(element.parentElement) : color;
    };
    const found = {};
    for (const element of document.querySelectorAll("main *")) {
        if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
        const lights = [light(getComputedStyle(element).color), light(ground(element))];
        found[element.tagName + "." + element.className] = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
    }
    return found;
})()"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


class Browser:
    """One tab. https://chromedevtools.github.io/devtools-protocol"""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands = commands
        self.answers = answers
        self.unread = b""
        self.number = 0
        self.tab: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.tab = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> Any:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **self.tab}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        answer = self.until(lambda message: message.get("id") == self.number)
        assert "error" not in answer, answer
        return answer["result"]

    def until(self, wanted: Any) -> dict[str, Any]:
        """The next message of that kind; others are passed over."""
        while True:
            while b"\0" not in self.unread:
                assert select.select([self.answers], [], [], PATIENCE)[0], "the browser is silent"
                self.unread += os.read(self.answers, 1 << 20)
            message, _, self.unread = self.unread.partition(b"\0")
            read = json.loads(message)
            if wanted(read):
                return read

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until(lambda message: message.get("method") == "Page.loadEventFired")

    def ask(self, expression: str) -> Any:
        """A JavaScript expression's value, awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def size(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, name: str) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def press(self, body: str) -> tuple[str, str]:
        """Types a body, presses Predict, and waits for what appears: its class and its text."""
        shown = self.ask(f"({PRESS})({json.dumps(body)})")
        return shown[0], shown[1]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    commands_out, commands_in = os.pipe()
    answers_out, answers_in = os.pipe()
    theirs = [fcntl.fcntl(commands_out, fcntl.F_DUPFD, 10), fcntl.fcntl(answers_in, fcntl.F_DUPFD, 10)]
    command = [sys.executable, "-c", AT_3_AND_4, *map(str, theirs), str(CHROMIUM), *FLAGS]
    folder = tmp_path_factory.mktemp("browser")
    process = subprocess.Popen(
        [*command, f"--user-data-dir={folder}"],
        pass_fds=theirs,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
    )
    for number in (commands_out, answers_in, *theirs):
        os.close(number)
    try:
        yield Browser(commands_in, answers_out)
    finally:
        for number in (commands_in, answers_out):
            os.close(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving("-m", model_path(models, "logistic")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Server) -> Browser:
    """The page of an ordinary model, opened."""
    browser.size(1280, 900)
    browser.scheme("light")
    browser.open(f"http://127.0.0.1:{server.port}/")
    return browser


def test_shows_the_model_and_how_to_ask_it(page: Browser, server: Server) -> None:
    """Name, columns with their types, an example, its curl line, and when to use which way are all on the page."""
    text = page.ask("document.body.innerText")
    assert "logistic" == page.ask("document.querySelector('h1').innerText")
    assert "logistic – foretell" == page.ask("document.title")
    cells = page.ask("[...document.querySelectorAll('td')].map(cell => cell.innerText)")
    assert [cell for name in NAMES for cell in (name, "double", "")] == cells
    assert '{"data": [[5.1, 3.5, 1.4, 0.2]]}' == page.ask("document.getElementById('body').value")
    assert f"http://localhost:{server.port}/invocations" in text
    assert [] == [line for line in WHEN if re.sub(r"\s+", " ", line) not in re.sub(r"\s+", " ", text)]


def test_its_curl_line_works(page: Browser) -> None:
    """What is copied from the page and pasted into a shell gets a prediction."""
    line = page.ask("[...document.querySelectorAll('pre')].map(e => e.innerText).find(t => t.startsWith('curl'))")
    ran = subprocess.run(["sh", "-c", line], capture_output=True, timeout=PATIENCE, check=False)
    assert b'{"predictions": ["setosa"]}' == ran.stdout


def test_predict_shows_the_answer(page: Browser) -> None:
    """Pressing Predict asks the server, and shows its answer with the time that it took."""
    look, text = page.press('{"data": [[6.3, 3.3, 6.0, 2.5]]}')
    assert "good" == look
    assert re.fullmatch(r'\{"predictions": \["virginica"\]\}\s+[\d.]+ ms', text)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param('{"data": [[5.1, 3.5, "x", 0.2]]}', "$.data[0][2] (petal length (cm))", id="cell"),
        pytest.param('{"data": ', "not valid JSON", id="syntax"),
        pytest.param('{"data": [["<b>x</b>", 1, 1, 1]]}', '"<b>x</b>" is not a number', id="markup"),
    ],
)
def test_a_mistake_is_shown_as_one(page: Browser, body: str, said: str) -> None:
    """The message of a refused request is shown as plain text, and a good one after it is good again."""
    look, text = page.press(body)
    assert "bad" == look
    assert said in text
    assert "error_code" not in text
    assert "good" == page.press('{"data": [[5.1, 3.5, 1.4, 0.2]]}')[0]


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_can_be_looked_at(page: Browser, width: int, scheme: str) -> None:
    """A picture of it has the size of the window and something in it, in both colour schemes; nothing sticks out."""
    page.size(width, 900)
    page.scheme(scheme)
    picture = base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"])
    assert (width, 900) == struct.unpack(">II", picture[16:24])
    assert 16 < len(set(pixels(picture)))
    assert width == page.ask("document.documentElement.scrollWidth")
    ground = page.ask("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (scheme == "light") == (min(ground) > 200)
    assert (scheme == "dark") == (max(ground) < 60)


def pixels(picture: bytes) -> bytes:
    """A PNG's image data, unpacked; rows are still filtered."""
    packed, at = b"", 8
    while at < len(picture):
        length, kind = struct.unpack(">I4s", picture[at : at + 8])
        packed += picture[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    return zlib.decompress(packed)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_can_be_read(page: Browser, scheme: str) -> None:
    """Every text, answers of both kinds too, stands out from its ground by the 4.5 to 1 that WCAG 2 asks for."""
    page.scheme(scheme)
    page.press('{"data": ')
    bad = page.ask(CONTRASTS)
    page.press('{"data": [[5.1, 3.5, 1.4, 0.2]]}')
    contrasts = bad | page.ask(CONTRASTS)
    assert 8 < len(contrasts)
    assert {} == {where: value for where, value in contrasts.items() if value < 4.5}


HOSTILE = [
    "<script>document.title = 'taken'</script>",
    '"><img src=x onerror="document.title = \'taken\'">',
    "</textarea></table><h1>not the name</h1>",
    "a & b < c > d &amp; $name ${curl} $$ %s",
    "x" * 300,
    "naïve 列 😀",
]


def test_a_hostile_model_is_only_text(browser: Browser, tmp_path: Path) -> None:
    """Markup in the names of a model and of its columns is shown as it is written, and a long name is wrapped."""

    class First:
        def predict(self, rows: Any) -> Any:
            return rows[:, 0]

    folder = tmp_path / "<img src=x onerror=alert(1)> & $about"
    folder.mkdir()
    inputs = json.dumps([{"type": "double", "name": name, "required": True} for name in HOSTILE])
    flavors = {"sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"}}
    (folder / "MLmodel").write_text(json.dumps({"flavors": flavors, "signature": {"inputs": inputs}}))
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(First()))
    with serving("--trust", "-m", folder) as server:
        browser.size(400, 900)
        browser.open(f"http://127.0.0.1:{server.port}/")
        assert folder.name == browser.ask("document.querySelector('h1').textContent")
        assert f"{folder.name} – foretell" == browser.ask("document.title")
        shown = browser.ask("[...document.querySelectorAll('td:first-child')].map(cell => cell.textContent)")
        assert HOSTILE == shown
        assert [1, 1, 0] == [
            browser.ask(f"document.querySelectorAll('{tag}').length") for tag in ("script", "h1", "img")
        ]
        assert 400 == browser.ask("document.documentElement.scrollWidth")
        assert "good" == browser.press(json.dumps({"data": [[1, 2, 3, 4, 5, 6]]}))[0]


# The page of all routes, at /docs

SHOWN = """new Promise(done => {
    const look = () => document.getElementById("route").value ? done(true) : setTimeout(look, 10);
    look();
})"""

OPEN_ALL = """new Promise(done => {
    const all = [...document.querySelectorAll("details")];
    all.forEach(each => { each.open = true; });
    const look = () => all.every(each => each.childElementCount > 1) ? done() : setTimeout(look, 10);
    look();
})"""

SNIPPET = "document.querySelectorAll('[role=tab]')[%d].click(), document.getElementById('snippet').textContent"


@pytest.fixture
def docs(browser: Browser, server: Server) -> Browser:
    browser.size(1280, 900)
    browser.scheme("light")
    browser.open(f"http://127.0.0.1:{server.port}/docs")
    assert browser.ask(SHOWN)
    return browser


def test_the_docs_show_every_route(docs: Browser, server: Server) -> None:
    """Columns, every route with its answers, and every schema are there, from the server's own description."""
    doc = server.request("GET", "/openapi.json").json()
    docs.ask(OPEN_ALL)
    heads = docs.ask("[...document.querySelectorAll('summary code')].map(each => each.textContent)")
    routes = [f"{method.upper()} {path}" for path, item in doc["paths"].items() for method in item]
    assert [*routes, *doc["components"]["schemas"]] == heads
    cells = docs.ask("[...document.querySelectorAll('#fields td')].map(cell => cell.innerText)")
    assert [cell for name in NAMES for cell in (name, "double", "")] == cells
    assert "Retry-After" in docs.ask("document.querySelector('#routes details').innerText")


@pytest.mark.parametrize("kind", ["application/json", "text/csv", "application/jsonl"])
def test_the_docs_try_a_request(docs: Browser, kind: str) -> None:
    """Each content type comes with an example that works, and its answer is shown with status, time and version."""
    pick = "{ const one = document.getElementById('kind'); one.value = %s; one.dispatchEvent(new Event('change')); }"
    docs.ask(pick % json.dumps(kind))
    look, text = docs.press(docs.ask("document.getElementById('body').value"))
    assert "good" == look
    assert "setosa" in text
    assert re.search(r"200 · [\d.]+ ms · version \w+ · request \S+$", text)
    look, text = docs.press("'<b>'")
    assert ("bad", True) == (look, "400 · " in text)


def test_the_docs_snippets_work(docs: Browser) -> None:
    """What is copied for curl and for Python gets the answer; JavaScript's is run by the page itself."""
    shell, python, script = (docs.ask(SNIPPET % at) for at in range(3))
    for command in (["sh", "-c", shell], [sys.executable, "-c", python]):
        ran = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        assert b'{"predictions": ["setosa"]}' == ran.stdout.strip(), ran.stderr
    assert "setosa" in docs.ask(f"(async () => {{ {script.replace('console.log(', 'return (')} }})()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_docs_can_be_read_on_a_phone(docs: Browser, scheme: str) -> None:
    """Nothing sticks out at a phone's width, all details open, and every text stands out from its ground."""
    docs.size(390, 844)
    docs.scheme(scheme)
    docs.ask(OPEN_ALL)
    docs.press('{"data": ')
    contrasts = docs.ask(CONTRASTS)
    assert 390 == docs.ask("document.documentElement.scrollWidth")
    assert 8 < len(contrasts)
    assert {} == {where: value for where, value in contrasts.items() if value < 4.5}


def test_the_docs_ask_for_a_key(browser: Browser, tmp_path: Path) -> None:
    """Where requests need a key, the page asks for one, says when it is wrong, and then sends it with every request."""
    key = keys.add(tmp_path / "keys", "me", "predict")
    unlock = "document.getElementById('key').value = %s; document.querySelector('#unlock button').click()"
    wait = "new Promise(done => { const look = () => %s ? done(true) : setTimeout(look, 10); look(); })"
    with serving("-m", Path(package.__file__).parent / "demo" / "iris", "--api-key-file", tmp_path / "keys") as guarded:
        browser.open(f"http://localhost:{guarded.port}/docs")
        assert browser.ask(wait % "!document.getElementById('locked').hidden")
        browser.ask(unlock % json.dumps("wrong"))
        assert browser.ask(wait % "document.getElementById('refused').textContent.includes('does not know')")
        browser.ask(unlock % json.dumps(key))
        assert browser.ask(SHOWN)
        assert "good" == browser.press('{"data": [[5.1, 3.5, 1.4, 0.2]]}')[0]
        shell = browser.ask(SNIPPET % 0)
        assert key not in shell
        ran = subprocess.run(
            ["sh", "-c", shell], env={**os.environ, "KEY": key}, capture_output=True, timeout=PATIENCE, check=False
        )
        assert b'{"predictions": [0]}' == ran.stdout


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_run_nothing_but_their_own(server: Server, path: str) -> None:
    """Script and style are allowed by their hashes alone, and no other page may frame it."""
    reply = server.request("GET", path)
    policy = reply.headers["content-security-policy"]
    assert "unsafe" not in policy
    for part in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in policy
    for kind in (b"script", b"style"):
        (inner,) = re.findall(rb"<%b>(.*?)</%b>" % (kind, kind), reply.body, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(inner).digest()).decode() in policy
    assert [] == re.findall(rb"src=|@import|url\(|href=\"(?!/)", reply.body)
    assert len(reply.body) < 20_000
