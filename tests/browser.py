"""A real browser for tests of HTML pages: what a page shows, what it asks for, what it complains of.

Tests take the fixture `browser` of conftest.py; their modules set ``pytestmark = SHARED_BROWSER``, so that one worker
runs them all in one browser.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SHARED_BROWSER = pytest.mark.xdist_group("chromium")


class Browser:
    """A headless Chromium with one page, driven through a pipe by the DevTools protocol."""

    def __init__(self, profile):
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        # Chromium reads its orders from descriptor 3 and answers on 4.
        start = (
            "import fcntl, os, sys; high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]];"
            "os.dup2(high[0], 3); os.dup2(high[1], 4); os.execvp(sys.argv[3], sys.argv[3:])"
        )
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        flags += ["--disable-background-networking", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", start, str(to_browser), str(from_browser), CHROMIUM, *flags],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number, self._session = b"", 0, None
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        os.close(self._out)  # the end of its orders is the end of the browser
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._in)

    def _message(self, until):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0, until - time.monotonic()))
            received = os.read(self._in, 2**20) if ready else b""
            if not received:
                raise AssertionError("the browser does not answer")
            self._buffer += received
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        """Give an order and wait for its answer; events on the way are kept."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": params}
        if self._session:
            order["sessionId"] = self._session
        os.write(self._out, json.dumps(order).encode() + b"\0")
        until = time.monotonic() + 60
        while (message := self._message(until)).get("id") != self._number:
            self.events.append(message)
        assert "error" not in message, (method, message["error"])
        return message["result"]

    def open(self, path, width=1280, height=900, dark=False):
        """Open a page anew; `events` are this page's."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        for url in ("about:blank", path.as_uri()):
            self.events = []
            self.call("Page.navigate", url=url)
            until = time.monotonic() + 60
            while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
                self.events.append(self._message(until))

    def screenshot(self, path, full_page=False):
        """Draw what the window shows, or with full_page all of the page, into a PNG file in CSS pixels."""
        options = {}
        if full_page:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            options = {"captureBeyondViewport": True, "clip": clip}
        image = self.call("Page.captureScreenshot", format="png", **options)["data"]
        path.write_bytes(base64.b64decode(image))

    def run(self, expression):
        """Value of a JavaScript expression, promises awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)}).textContent")

    def press(self, key):
        codes = {"ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "Tab": 9, "Delete": 46, "Enter": 13}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind, extra in (("keyDown", text), ("keyUp", {})):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **extra)

    def complaints(self):
        """Errors and warnings of the page so far."""
        self.run("new Promise(requestAnimationFrame)")
        wrong = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [event["params"] for event in self.events if event.get("method") in wrong]

    def requests(self):
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        urls = {event["request"]["url"].split("#")[0] for event in sent}
        return {url for url in urls if not url.startswith("data:")}  # pictures within the page itself
