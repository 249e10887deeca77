"""A headless Chromium, driven by its DevTools protocol: pages as a person sees them.

The protocol evaluates scripts in a page whatever the page's content policy says, so the policy stays as it is.
"""

import asyncio
import base64
import itertools
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
_START_S = 60.0
_ANSWER_S = 60.0


def find_browser() -> str | None:
    """The path of a Chromium; None if there is none here."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Tab:
    """One page of a browser, and what it did since it was opened."""

    socket: aiohttp.ClientWebSocketResponse
    loop: asyncio.AbstractEventLoop
    requests: list[str] = field(default_factory=list)
    """URLs that the page asked for, the page itself left out."""
    errors: list[str] = field(default_factory=list)
    """Errors and warnings of the console."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _events: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        return self.loop.run_until_complete(self._call(method, parameters))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._receive(_ANSWER_S)
            if message is not None and message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                result: dict[str, Any] = message["result"]
                return result

    async def _receive(self, timeout_s: float) -> dict[str, Any] | None:
        try:
            message: dict[str, Any] = await self.socket.receive_json(timeout=timeout_s)
        except TimeoutError:
            return None
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method", ""), message.get("params", {})
        self._events.append(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"])[:300])
        elif method == "Runtime.consoleAPICalled":
            self.errors.append(str(parameters["args"])[:300])
        elif method == "Log.entryAdded":
            self.errors.append(str(parameters["entry"]["text"])[:300])

    def open(self, path: Path, width_px: int, is_dark: bool) -> None:
        """Load a local page."""
        height_px = 844 if width_px < 600 else 900
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        # Not as a mobile device: that one would widen its viewport until everything fits.
        size = {"width": width_px, "height": height_px}
        self.call("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self._events.clear()
        self.call("Page.navigate", url=path.as_uri())
        deadline_s = time.monotonic() + _ANSWER_S
        while "Page.loadEventFired" not in self._events:
            assert time.monotonic() < deadline_s, f"{path} did not load"
            self.loop.run_until_complete(self._receive(1.0))
        self.evaluate("1")  # waits for what the load has started
        self.requests = [url for url in self.requests if url != path.as_uri() and not url.startswith("data:")]

    def evaluate(self, script: str) -> Any:
        """The value of an expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key."""
        codes = {"Tab": 9, "Enter": 13}
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if (kind, key) == ("keyDown", "Enter") else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text)

    def screenshot(self, target: Path, from_px: int = 0, height_px: int | None = None) -> None:
        """Write a picture of the page, or of a part of it, as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        height = size["height"] if height_px is None else min(height_px, size["height"] - from_px)
        clip = {"x": 0, "y": from_px, "width": size["width"], "height": height, "scale": 1}
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        target.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def browser(path: str) -> Iterator[Any]:
    """A running browser: call it for a new tab."""
    loop = asyncio.new_event_loop()
    # Its helpers may still write while the profile is removed.
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        # A page that asks for a host gets none: the check sees the request, and nothing leaves this machine.
        quiet += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--allow-file-access-from-files"]
        process = subprocess.Popen(
            [path, *arguments, *quiet, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        session = loop.run_until_complete(_session())
        try:
            port = _port(Path(profile), process)

            def new_tab() -> Tab:
                return loop.run_until_complete(_tab(session, port, loop))

            yield new_tab
        finally:
            loop.run_until_complete(session.close())
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)
            loop.close()


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


async def _tab(session: aiohttp.ClientSession, port: int, loop: asyncio.AbstractEventLoop) -> Tab:
    async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
        url = (await answer.json())["webSocketDebuggerUrl"]
    return Tab(await session.ws_connect(url, max_msg_size=0), loop)


def _port(profile: Path, process: "subprocess.Popen[bytes]") -> int:
    """The port of the protocol, which the browser writes to its profile."""
    file, deadline_s = profile / "DevToolsActivePort", time.monotonic() + _START_S
    while not file.exists() or not file.read_text().strip():
        assert process.poll() is None, "the browser has ended"
        assert time.monotonic() < deadline_s, "the browser does not start"
        time.sleep(0.1)
    return int(file.read_text().split()[0])
