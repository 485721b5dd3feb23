# SPDX-License-Identifier: MIT
"""httpd_page CHROMIUM URL TOKEN [SCREENSHOT_PREFIX]: uses the live page of `naru httpd` as a person would

Prints a TAP line a check. Talks to the browser over its pipe for debuggers (--remote-debugging-pipe).
"""
import base64
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse

BROWSER, URL, TOKEN = sys.argv[1:4]
PREFIX = sys.argv[4] if len(sys.argv) > 4 else None
SECONDS = 30


class Browser:
    def __init__(self, profile):
        # The browser reads from its 3 and writes to its 4: first out of the way of those.
        pipes = [os.pipe(), os.pipe()]
        to_read, to_write = [tuple(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in pipe) for pipe in pipes]
        for fd in pipes[0] + pipes[1]:
            os.close(fd)

        def place():
            os.dup2(to_read[0], 3)
            os.dup2(to_write[1], 4)

        command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}",
                   "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage", "about:blank"]
        with open(os.devnull, "w", encoding="utf-8") as nothing:
            self.process = subprocess.Popen(command, stdout=nothing, stderr=nothing, preexec_fn=place, pass_fds=(3, 4), start_new_session=True)
        self.writer, self.reader = to_read[1], to_write[0]
        os.close(to_read[0])
        os.close(to_write[1])
        self.buffer, self.count, self.requested, self.session = b"", 0, [], None

    def message(self):
        while b"\0" not in self.buffer:
            part = os.read(self.reader, 1 << 20)
            if not part:
                raise EOFError("the browser has gone")
            self.buffer += part
        text, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(text)

    def do(self, method, **parameters):
        self.count += 1
        command = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            command["sessionId"] = self.session
        os.write(self.writer, json.dumps(command).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, url):
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.do("Network.enable")
        self.do("Page.enable")
        self.do("Page.navigate", url=url)

    def evaluate(self, expression):
        result = self.do("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def wait_for(self, expression):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if value := self.evaluate(expression):
                return value
            time.sleep(0.1)
        return None

    def key(self, name, code, text=None):
        more = {"text": text} if text else {}
        self.do("Input.dispatchKeyEvent", type="keyDown", key=name, code=name, windowsVirtualKeyCode=code, **more)
        self.do("Input.dispatchKeyEvent", type="keyUp", key=name, code=name, windowsVirtualKeyCode=code)

    def click(self, expression):
        """At the middle of an element, with the mouse."""
        place = self.evaluate(f"(() => {{ const e = {expression}; e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()")
        for kind in ("mousePressed", "mouseReleased"):
            self.do("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def picture(self, name):
        if PREFIX:
            with open(f"{PREFIX}-{name}.png", "wb") as file:
                file.write(base64.b64decode(self.do("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        try:
            self.session = None
            self.do("Browser.close")
            self.process.wait(10)
        except (EOFError, OSError, RuntimeError, subprocess.TimeoutExpired):
            pass
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()


checks = []


def check(name, is_right):
    checks.append(bool(is_right))
    print(f"{'ok' if is_right else 'not ok'} {len(checks)} - {name}", flush=True)


def size(browser, width, height, is_phone):
    browser.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_phone)
    time.sleep(0.3)
    return browser.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")


def main(browser):
    row = "document.querySelector('#workers tr')"
    pid = f"{row}.cells[0].textContent"
    browser.open(URL)
    check("the workers appear", browser.wait_for(f"{row} && {row}.cells[1].textContent !== ''"))
    check("it has a title and a language", browser.evaluate("document.title === 'naru httpd' && document.documentElement.lang === 'en'"))
    check("without the token nothing can be stopped", browser.evaluate("[...document.querySelectorAll('td button')].every(b => b.disabled)"))
    check("it fits a wide window", size(browser, 1100, 900, False))
    browser.picture("light")

    before = browser.evaluate(pid)
    browser.click("document.getElementById('token')")
    browser.do("Input.insertText", text=TOKEN)
    check("with the token it can", browser.wait_for("[...document.querySelectorAll('td button')].some(b => !b.disabled)"))
    browser.click(f"{row}.cells[7].firstChild")
    check("a click stops a worker, and it says so", browser.wait_for("document.getElementById('message').textContent.includes('being stopped')"))
    check("another one takes its place", browser.wait_for(f"{row} && {pid} !== {json.dumps(before)}"))
    check("how it ended is told", browser.wait_for("document.querySelector('#deaths li')?.textContent.includes('Worker 0')"))

    before = browser.evaluate(pid)
    browser.evaluate("document.getElementById('token').blur(); document.body.focus()")
    browser.evaluate("document.getElementById('token').focus()")
    for _ in range(20):  # backwards from the field to the first row's button
        browser.do("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9, modifiers=8)
        browser.do("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9, modifiers=8)
        if browser.evaluate(f"document.activeElement === {row}.cells[7].firstChild"):
            break
    browser.key("Enter", 13, "\r")
    check("and so without a mouse", browser.wait_for(f"{row} && {pid} !== {json.dumps(before)}"))

    browser.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    check("it is dark where that is wished", browser.evaluate("getComputedStyle(document.body).backgroundColor === 'rgb(18, 23, 22)'"))
    browser.picture("dark")
    check("it fits a phone", size(browser, 360, 740, True))
    browser.picture("phone")
    host = urllib.parse.urlsplit(URL).netloc
    check("it asks no other server", all(urllib.parse.urlsplit(url).netloc == host for url in browser.requested if not url.startswith("data:")))


with tempfile.TemporaryDirectory(prefix="naru-e2e-browser-", ignore_cleanup_errors=True) as folder:
    browser = Browser(folder)
    try:
        main(browser)
    except (EOFError, RuntimeError, TypeError) as error:
        check(f"the page can be used: {error}", False)
    finally:
        browser.close()
print(f"1..{len(checks)}")
sys.exit(not all(checks))
