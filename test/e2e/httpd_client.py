# SPDX-License-Identifier: MIT
"""httpd_client PORT WHAT [ARGUMENT]...: asks a `naru httpd` what no ordinary client would, and prints what is wrong

  malformed        requests that must be refused, each with another one behind it that nobody may see
  files DIR        what HTTP says of conditions, ranges and paths, over the files that `httpd` has made in DIR
  load SECONDS     two clients without a pause; every answer is whole, or its connection ended
  storm SECONDS    the same while a worker is killed every 50 ms: no more connections end than those had in hand
  slow             clients that send a byte now and then
  left             clients that end their side of the connection
  fuzz SECONDS SEED mutated requests over several connections, whole, split and slow, against a strict reading of each
  service NARU DIR what a service manager does: hands down a socket, and hears what becomes of it (PORT is 0)
  get PATH         prints the body
  code PATH        prints the status
Exit code 1 if something was wrong.
"""
import email.utils
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PORT = int(sys.argv[1])
HOST = b"Host: localhost\r\n"
LOADERS = 2
wrong = []


def connect(timeout=10):
    client = socket.create_connection(("127.0.0.1", PORT), timeout)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def receive_all(client):
    data = b""
    try:
        while part := client.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data


def ask(head, method="GET"):
    """Status, fields and body of one request, whose connection is closed by us."""
    with connect() as client:
        client.sendall(head)
        return read_answer(client, method)


def read_answer(client, method="GET", rest=b""):
    data = rest
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        if not part:
            raise EOFError(data)
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    status = int(lines[0].split()[1])
    length = 0 if method == "HEAD" or status == 304 else int(fields.get("content-length", 0))
    while len(body) < length:
        part = client.recv(65536)
        if not part:
            raise EOFError(data)
        body += part
    return status, fields, body


def get(path, *fields, method="GET"):
    text = "".join(field + "\r\n" for field in fields)
    return ask(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{text}\r\n".encode("latin-1"), method)


def expect(what, came, *wanted):
    if came not in wanted:
        wrong.append(f"{what}: came {came!r}, and wanted was {' or '.join(map(repr, wanted))}")


MALFORMED = {
    "a body": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",
    "a length of 0": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
    "two lengths": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "length and encoding": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an encoding": b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a disguised encoding": b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n",
    "an encoding by tab": b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    "a folded encoding": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n",
    "a length that is none": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n",
    "an empty length": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: \r\n\r\n",
    "a huge length": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "an expectation": b"GET / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "no Host in HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\n" + HOST + b"Host: elsewhere\r\n\r\n",
    "two equal Hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a Host with a blank": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    "NULs in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0\0b\r\n\r\n",
    "NUL at a value's end": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\n" + HOST + b"X\0Y: a\r\n\r\n",
    "bare CR in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n",
    "bare CR at a value's end": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\r\nY: b\r\n\r\n",
    "bare LF between headers": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\nY: b\r\n\r\n",
    "DEL in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x7f\r\n\r\n",
    "BEL in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X: \x07\r\n\r\n",
    "a name with a blank": b"GET / HTTP/1.1\r\n" + HOST + b"X Y: a\r\n\r\n",
    "a blank before the colon": b"GET / HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n",
    "a control character in a name": b"GET / HTTP/1.1\r\n" + HOST + b"X\x01: a\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n",
    "an empty name": b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "%00 in the target": b"GET /a%00b HTTP/1.1\r\n" + HOST + b"\r\n",
    "%0a in the target": b"GET /a%0ab HTTP/1.1\r\n" + HOST + b"\r\n",
    "a broken %": b"GET /a%zz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a % at the end": b"GET /a% HTTP/1.1\r\n" + HOST + b"\r\n",
    "a control character in the target": b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a raw byte in the target": b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "a blank in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "no path": b"GET nothing HTTP/1.1\r\n" + HOST + b"\r\n",
    "an asterisk": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    "no version": b"GET /\r\n" + HOST + b"\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/1.9x": b"GET / HTTP/1.9x\r\n" + HOST + b"\r\n",
    "a blank behind the version": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "POST": b"POST / HTTP/1.1\r\n" + HOST + b"\r\n",
    "PUT with a body": b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc",
    "DELETE": b"DELETE / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a lower-case method": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method that is no word": b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "too many headers": b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 90) for i in range(500)) + b"\r\n",
    "too long a header": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 70000 + b"\r\n\r\n",
    "too long a target": b"GET /" + b"y" * 70000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
}


def collapse(answers):
    """The HTTP library's own refusal of a wrong Content-Length has its head twice."""
    return re.sub(rb"(HTTP/1\.1 4\d\d [A-Z][^\n]*\n(?:[!-~][^\n]*\n)*\r\n)\1", rb"\1", answers)


def malformed():
    """Each is refused or gets nothing; and what stands behind it in the connection is never answered."""
    for name, request in MALFORMED.items():
        with connect() as client:
            try:
                client.sendall(request + b"GET /second HTTP/1.1\r\n" + HOST + b"\r\n")
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                answers = collapse(receive_all(client))
            except TimeoutError:
                wrong.append(f"{name}: the connection stays open")
                continue
            if answers.count(b"HTTP/1.1 ") > 1:
                wrong.append(f"{name}: {answers.count(b'HTTP/1.1 ')} answers")
            if answers and not answers.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
                wrong.append(f"{name}: answered with {answers[:30]!r}")
    print(f"{len(MALFORMED)} malformed requests")


def files(directory):
    with open(f"{directory}/large.bin", "rb") as file:
        large = file.read()
    status, fields, body = get("/large.bin")
    expect("a large file", (status, body == large, fields["content-length"]), (200, True, str(len(large))))
    expect("its type", fields["content-type"], "application/octet-stream")
    tag, date = fields["etag"], fields["last-modified"]
    expect("its date", email.utils.parsedate_to_datetime(date).timestamp(), float(int(os.stat(f"{directory}/large.bin").st_mtime)))
    expect("HEAD", get("/large.bin", method="HEAD")[0::2], (200, b""))
    expect("HEAD's length", get("/large.bin", method="HEAD")[1]["content-length"], str(len(large)))
    for path, kind in {"/": "text/html; charset=utf-8", "/sub/": "text/html; charset=utf-8", "/style.css": "text/css; charset=utf-8"}.items():
        status, fields, _ = get(path)
        expect(f"the type of {path}", (status, fields["content-type"], fields["x-content-type-options"]), (200, kind, "nosniff"))

    for path, wanted in {
        "/nothing": 404, "/sub": 301, "/empty/": 404, "/../etc/passwd": 400, "/sub/../../etc/passwd": 400, "/%2e%2e/etc/passwd": 400,
        "/sub/%2e%2e%2f%2e%2e/etc/passwd": 400, "/outside": 403, "/outside-directory/passwd": 403, "/inside": 200, "/fifo": 403, "/..": 400,
        "/...": 404, "//index.html": 200, "/unreadable": 403 if os.getuid() else 200, "/sub/index.html/": 404, "/%69ndex.html": 200,
        "/a%20blank.txt": 200, "/index.html?x=1": 200, "/" + "x" * 300: 404, "/" + "x/" * 3000: 414,
    }.items():
        expect(path[:40], get(path)[0], wanted)
    expect("a directory's address", get("/sub?x=1")[1]["location"], "/sub/?x=1")
    expect("one that looks like a host's", get("//sub")[1]["location"], "/.//sub/")
    expect("the absolute form", get("http://localhost/index.html")[0], 200)

    for field, wanted in {
        f"If-None-Match: {tag}": 304, f"If-None-Match: W/{tag}": 304, "If-None-Match: *": 304, f'If-None-Match: "x", {tag}': 304,
        'If-None-Match: "x"': 200, "If-None-Match: nonsense": 200, f"If-Modified-Since: {date}": 304, "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT": 200,
        "If-Modified-Since: yesterday": 200, "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT": 200,
    }.items():
        expect(field, get("/large.bin", field)[0], wanted)
    expect("a tag counts before a date", get("/large.bin", 'If-None-Match: "x"', f"If-Modified-Since: {date}")[0], 200)

    for fields, wanted in {
        (f"If-Match: {tag}",): 200, ("If-Match: *",): 200, (f'If-Match: "x", {tag}',): 200, ('If-Match: "x"',): 412, (f"If-Match: W/{tag}",): 412,
        (f"If-Unmodified-Since: {date}",): 200, ("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",): 412, ("If-Unmodified-Since: yesterday",): 200,
        (f"If-Match: {tag}", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"): 200, ('If-Match: "x"', f"If-None-Match: {tag}"): 412,
        ('If-Match: "x"', "Range: bytes=0-1"): 412, (f"If-Match: {tag}", "Range: bytes=0-1"): 206, (f"If-Match: {tag}", f"If-None-Match: {tag}"): 304,
    }.items():
        expect(" and ".join(fields), get("/large.bin", *fields)[0], wanted)

    size = len(large)
    for text, wanted in {
        "bytes=0-0": (0, 0), "bytes=5-9": (5, 9), "bytes=-7": (size - 7, size - 1), f"bytes={size - 1}-": (size - 1, size - 1), "bytes=0-": (0, size - 1),
        f"bytes=3-{10**30}": (3, size - 1), f"bytes=-{size * 2}": (0, size - 1), "bytes=40000-90000": (40000, 90000),
    }.items():
        status, fields, body = get("/large.bin", f"Range: {text}")
        first, last = wanted
        expect(text, (status, body == large[first:last + 1], fields.get("content-range")), (206, True, f"bytes {first}-{last}/{size}"))
    for text in ("bytes=9-5", "bytes=", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=1-2x", "bytes=--5"):
        expect(text, get("/large.bin", f"Range: {text}")[0::2], (200, large))
    for text in (f"bytes={size}-", "bytes=-0", f"bytes={10**30}-"):
        status, fields, _ = get("/large.bin", f"Range: {text}")
        expect(text, (status, fields.get("content-range")), (416, f"bytes */{size}"))
    for text, wanted in {tag: 206, '"x"': 200, date: 206, "Thu, 01 Jan 1970 00:00:00 GMT": 200, f"W/{tag}": 200}.items():
        expect(f"If-Range: {text}", get("/large.bin", "Range: bytes=1-2", f"If-Range: {text}")[0], wanted)

    with open(f"{directory}/changing.txt", "w", encoding="utf-8") as file:
        file.write("one")
    before = get("/changing.txt")
    with open(f"{directory}/changing.txt", "w", encoding="utf-8") as file:
        file.write("three")
    after = get("/changing.txt", f"If-None-Match: {before[1]['etag']}")
    expect("a changed file is not stale", (before[2], after[0], after[2]), (b"one", 200, b"three"))

    with connect() as client: # several requests in one connection, two of them at once
        client.sendall(b"GET /sub/ HTTP/1.1\r\n" + HOST + b"\r\n")
        expect("the first of a connection", read_answer(client)[2], b"sub\n")
        client.sendall((b"GET /sub/ HTTP/1.1\r\n" + HOST + b"\r\n") * 2)
        client.shutdown(socket.SHUT_WR)
        expect("two at once", receive_all(client).count(b"sub\n"), 2)


def load(seconds):
    """Prints how many answers came, and how many connections ended without one; returns the latter."""
    end, counts, size = time.monotonic() + seconds, [0, 0], {"/": None, "/large.bin": None}
    for path in size:
        size[path] = len(get(path)[2])

    def run():
        while time.monotonic() < end:
            try:
                with connect() as client:
                    for path in list(size) * 20:
                        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                        status, fields, body = read_answer(client)
                        if status != 200 or len(body) != size[path]:
                            wrong.append(f"{path}: {status}, {len(body)} bytes")
                        counts[0] += 1
                        if fields.get("connection") == "close":
                            break
            except (EOFError, ConnectionResetError, BrokenPipeError):
                counts[1] += 1
            except OSError as error:
                wrong.append(f"a connection was not taken: {error}")

    threads = [threading.Thread(target=run) for _ in range(LOADERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 30)
        if thread.is_alive():
            wrong.append("it hangs")
    print(counts[0], counts[1])
    return counts[1]


def storm(seconds):
    kills, unread, is_over = 0, 0, threading.Event()

    def kill():
        nonlocal kills, unread
        while not is_over.wait(0.05):
            try:
                workers = json.loads(get("/naru/status.json")[2])["workers"]
                victim = random.choice([worker["pid"] for worker in workers if worker["state"] in ("idle", "busy")])
                os.kill(victim, signal.SIGKILL)
                kills += 1
            except (EOFError, ConnectionResetError, BrokenPipeError, IndexError, ProcessLookupError):
                unread += 1 # who was asked has just been killed, or all have

    killer = threading.Thread(target=kill)
    killer.start()
    ended = load(seconds)
    is_over.set()
    killer.join()
    print(f"{kills} kills, {unread} looks in vain")
    if kills < seconds * 2:
        wrong.append(f"only {kills} kills")
    if ended > kills * LOADERS:
        wrong.append(f"{ended} connections ended, and {kills} kills explain {kills * LOADERS}")


def slow():
    """One that never ends its request is shut out by the limit on idleness, however often it sends a byte."""
    with connect(30) as client:
        begin = time.monotonic()
        try:
            for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 1000:
                client.sendall(bytes([byte]))
                time.sleep(0.1)
                if time.monotonic() - begin > 20:
                    wrong.append("a slow client is served for ever")
                    break
        except OSError:
            pass
    expect("others meanwhile", get("/")[0], 200)


def left():
    """The limit on idleness is 15 s here."""
    for what, text in {"behind a request": b"GET /sub/ HTTP/1.1\r\n" + HOST + b"\r\n", "within a request": b"GET /su", "at once": b""}.items():
        with connect() as client:
            begin = time.monotonic()
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            try:
                answers = receive_all(client)
            except TimeoutError:
                wrong.append(f"left {what}: the connection stays")
                continue
            expect(f"left {what}", answers.count(b"sub\n"), int(what == "behind a request"))
            expect(f"left {what}: gone in time", time.monotonic() - begin < 5, True)


# What a request may be, read as strictly as can be (RFC 9112), with what this server adds: one Host, no body. And with what its library hides
# from it: before a request line, lines may be empty or begin with NUL; NUL LF, or at the end colon LF, looks like CR LF,
# and NUL CR LF LF like CR LF CR LF.
STRICT = re.compile(rb"(?:\r?\n|\0[^\n]*\n)*(?:GET|HEAD) (?:[Hh][Tt][Tt][Pp]://[!-~]*)?/[!-~]* HTTP/1\.[0-9][\r\0]\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*(?:[\r\0]\n|\0\r\n(?=\n)))*)(?:[\r\0:]\n|(?<=\0\r\n)\n)")
BODY = re.compile(rb"(?im)^(?:content-length|transfer-encoding|trailer|expect):")


def count_strict(stream):
    """How many requests stand at the beginning of the stream; what is behind them is none."""
    count = at = 0
    while (found := STRICT.match(stream, at)) and not BODY.search(found.group(1)) and len(re.findall(rb"(?im)^host:", found.group(1))) == 1:
        count, at = count + 1, found.end()
    return count


def mutate(rng, text):
    pieces = [b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"\r\n ", b"%00", b"/../", b"HTTP/1.1", b"GET / ", b"\xff", b"Host: a\r\n",
              b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Range: bytes=0-1,5-6\r\n", b"If-Match: \"x\r\n", b"Connection: keep-alive\r\n", b"x" * 9000]
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(text))
        to = min(len(text), at + rng.choice((1, 1, 2, 8, 30)))
        text = rng.choice((
            lambda: text[:at] + text[to:], lambda: text[:at] + rng.choice(pieces) + text[at:], lambda: text[:at] + rng.choice(pieces) + text[to:],
            lambda: text[:to] + text[at:], lambda: text[:at] + bytes([rng.randrange(256)]) + text[at + 1:],
        ))()
    return text


def fuzz(seconds, seed):
    valid = [f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode() for method in ("GET", "HEAD") for path in ("/", "/sub/", "/large.bin", "/naru/status.json")
             for more in ("", "Accept: */*\r\nX-Y: a b\r\n", "Range: bytes=5-9\r\n", 'If-None-Match: W/"a", "b"\r\n', "Connection: close\r\n")]
    seeds = valid * 3 + [request for request in MALFORMED.values() if len(request) < 10000]
    last = b"GET /last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    end, tried = time.monotonic() + seconds, [0]

    def attempt(rng):
        stream = b"".join(mutate(rng, rng.choice(seeds)) if rng.random() < 0.8 else rng.choice(valid) for _ in range(rng.randint(1, 3))) + last
        cuts = sorted(rng.sample(range(len(stream)), 4)) if rng.random() < 0.3 else []
        answers = b""
        with connect(0.5) as client:
            try:
                for begin, cut in zip([0] + cuts, cuts + [len(stream)]):
                    client.sendall(stream[begin:cut])
                    if cuts:
                        time.sleep(rng.random() * 0.01)
                while part := client.recv(65536):
                    answers += part
            except (BrokenPipeError, ConnectionResetError, TimeoutError):
                pass
        strict, statuses = count_strict(stream), re.findall(rb"HTTP/1\.1 (\d\d\d) [A-Z]", collapse(answers))
        served = sum(status < b"400" or status in (b"403", b"404", b"412", b"416") for status in statuses)
        if served > strict or len(statuses) > strict + 1:
            wrong.append(f"seed {seed}: {strict} requests, answered with {statuses}: {stream[:600]!r}")
        tried[0] += 1

    def run(number):
        rng = random.Random(f"{seed} {number}")
        while time.monotonic() < end:
            try:
                attempt(rng)
            except OSError as error:
                wrong.append(f"seed {seed}: a connection was not taken: {error}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 30)
    expect("afterwards", get("/")[0], 200)
    expect("deaths", json.loads(get("/naru/status.json")[2])["deaths_count"], 0)
    print(f"{tried[0]} connections, seed {seed}")


def service(naru, directory):
    global PORT
    with tempfile.TemporaryDirectory(prefix="naru-e2e-") as folder, socket.socket() as listener, \
         socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        listener.bind(("127.0.0.1", 0))
        listener.listen(10)
        PORT = listener.getsockname()[1]
        manager.bind(f"{folder}/notify")
        manager.settimeout(20)
        command = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&' + str(listener.fileno()), "sh",
                   naru, "httpd", "--root", directory, "--workers", "1"]
        server = subprocess.Popen(command, pass_fds=[listener.fileno()], env={**os.environ, "NOTIFY_SOCKET": f"{folder}/notify"},
                                  stderr=subprocess.DEVNULL)
        try:
            expect("it is told", manager.recv(100), b"READY=1")
            expect("the socket is used", get("/sub/")[2], b"sub\n")
            server.send_signal(signal.SIGHUP)
            expect("a reload", [manager.recv(100), manager.recv(100)], [b"RELOADING=1", b"READY=1"])
            server.send_signal(signal.SIGTERM)
            expect("its end", manager.recv(100), b"STOPPING=1")
            expect("its exit", server.wait(20), 0)
        finally:
            server.kill()
            server.wait()


def main():
    what, arguments = sys.argv[2], sys.argv[3:]
    if what == "malformed":
        malformed()
    elif what == "files":
        files(arguments[0])
    elif what == "load":
        load(float(arguments[0]))
    elif what == "storm":
        storm(float(arguments[0]))
    elif what == "slow":
        slow()
    elif what == "left":
        left()
    elif what == "fuzz":
        fuzz(float(arguments[0]), arguments[1])
    elif what == "service":
        service(*arguments)
    elif what == "get":
        sys.stdout.buffer.write(get(arguments[0])[2])
        sys.stdout.flush()
    elif what == "code":
        print(get(arguments[0])[0])
    else:
        sys.exit(__doc__)
    for line in wrong[:20]:
        print(line)
    sys.exit(1 if wrong else 0)


main()
