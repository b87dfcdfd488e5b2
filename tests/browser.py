"""A headless Chromium for tests of pages, driven over the DevTools protocol by a pair of pipes; no package needed.

python -m tests.browser runs/world/report/index.html --out shots     # pictures: 1400 and 400 wide, light, dark, print
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SETTINGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")


def program() -> str | None:
    """Return the path of a Chromium, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a headless Chromium; use it in a `with` statement."""

    def __init__(self) -> None:
        self.profile = tempfile.TemporaryDirectory()
        ours_read, theirs_write = os.pipe()
        theirs_read, ours_write = os.pipe()

        def fds() -> None:  # Chromium reads commands from 3 and writes answers to 4
            read, write = os.dup(theirs_read), os.dup(theirs_write)
            os.dup2(read, 3)
            os.dup2(write, 4)

        self.process = subprocess.Popen(
            [program() or NAMES[0], *SETTINGS, f"--user-data-dir={self.profile.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=fds,
        )
        os.close(theirs_read)
        os.close(theirs_write)
        self.input, self.output = os.fdopen(ours_write, "wb"), os.fdopen(ours_read, "rb")
        self.number, self.session, self.rest = 0, "", b""
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self.send("Page.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        others = psutil.Process(self.process.pid).children(recursive=True)  # they write to the profile to their end
        self.process.terminate()
        self.process.wait()
        psutil.wait_procs(others, timeout=10)
        self.input.close()
        self.output.close()
        self.profile.cleanup()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its result."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.input.write(json.dumps(message).encode() + b"\0")
        self.input.flush()
        answer = self._wait(lambda found: found.get("id") == self.number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _wait(self, wanted: Any) -> dict[str, Any]:
        while True:
            while b"\0" not in self.rest:
                more = os.read(self.output.fileno(), 1 << 20)
                if not more:
                    raise RuntimeError("Chromium has ended.")
                self.rest += more
            one, _, self.rest = self.rest.partition(b"\0")
            found = json.loads(one)
            if wanted(found):
                return found

    def look(self, width: int, dark: bool = False, media: str = "screen", height: int = 900) -> None:
        """Set the width of the window in CSS pixels, the colour scheme and the medium."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, path: Path) -> None:
        """Load a file and wait until it is there."""
        self.send("Page.navigate", url=path.resolve().as_uri())
        self._wait(lambda found: found.get("method") == "Page.loadEventFired")

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def picture(self, whole: bool = True) -> bytes:
        """Return a PNG of the page."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(found["data"])

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        self.send("Emulation.setEmulatedMedia", media="print", features=[])
        found = self.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        return base64.b64decode(found["data"])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    with Browser() as browser:
        for width in (1400, 400):
            for dark in (False, True):
                browser.look(width, dark)
                browser.open(given.page)
                name = f"{width}-{'dark' if dark else 'light'}.png"
                (given.out / name).write_bytes(browser.picture())
        browser.look(1400)
        browser.open(given.page)
        (given.out / "print.pdf").write_bytes(browser.pdf())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
