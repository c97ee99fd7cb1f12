"""What scripts/bench and scripts/measure share: a RabbitMQ, child processes, the simulator. Needs only Python."""
import contextlib
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATIENCE = 120  # longer than anything takes
TICKS = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def broker(name):
    """The address of a RabbitMQ: AMQP_URL's, or a private node of this name that ends with the block."""
    if url := os.environ.get("AMQP_URL"):
        yield url
        return
    os.environ["OPTIC_RABBITMQ_DIR"] = str(ROOT / "target/rabbitmq" / name)
    script = ROOT / "scripts/rabbitmq"
    try:
        yield subprocess.run([script, "start"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    finally:
        subprocess.run([script, "drop-all"], check=True)


def free_address():
    """Where nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % probe.getsockname()[1]


class Process:
    """A child that ends with the block, by TERM and if need be by KILL."""

    def __init__(self, command, env=None, log=None, **options):
        self.log = log or tempfile.TemporaryFile()
        self.spawned = time.time()
        self.child = subprocess.Popen([str(word) for word in command], env=dict(os.environ, **(env or {})),
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, **options)
        self.pid = self.child.pid
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
        self.child.wait()

    def line(self):
        """The next line that it prints."""
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self.pending:
            if not select.select([self.child.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise self.failed("said nothing")
            read = os.read(self.child.stdout.fileno(), 65536)
            if not read:
                raise self.failed("ended")
            self.pending += read
        line, _, self.pending = self.pending.partition(b"\n")
        return line.decode()

    def failed(self, how):
        self.log.seek(0)
        tail = self.log.read().decode(errors="replace")[-2000:]
        return RuntimeError(f"{' '.join(map(str, self.child.args[:2]))} {how}\n{tail}")

    def cpu_ms(self):
        """User and system time of all its threads."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / TICKS

    def memory_kib(self):
        """Resident now, and at most so far."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return tuple(int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "VmHWM"))


class Simulator(Process):
    """A simulated Discord that waits for its start."""

    def __init__(self, optic, options):
        super().__init__([optic, "simulate", "--address", "127.0.0.1:0", "--wait", *options])
        self.host = re.search(r"listening on http://(\S+)", self.line())[1]

    def control(self, what, post=False):
        request = urllib.request.Request(f"http://{self.host}/control/{what}", data=b"" if post else None)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


class Browser(Process):
    """Chromium without a window and with a new profile, by chromedriver (OPTIC_TEST_CHROMEDRIVER, or on the PATH)."""

    def __init__(self):
        # What it starts is in its process group, and ends with it however far it came.
        super().__init__([os.environ.get("OPTIC_TEST_CHROMEDRIVER", "chromedriver"), "--port=0"], start_new_session=True)
        try:
            while not (port := re.search(r"started successfully on port (\d+)", self.line())):
                pass
            self.base = f"http://127.0.0.1:{port[1]}/session"
            # As root, and where /dev/shm is small.
            options = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1280,900"]
            capabilities = {"alwaysMatch": {"goog:chromeOptions": {"args": options}}}
            self.base += "/" + self.ask("", {"capabilities": capabilities})["sessionId"]
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *_):
        try:
            with contextlib.suppress(OSError):
                self.ask("", method="DELETE")
        finally:
            self.kill()

    def kill(self):
        """The driver, and Chromium where that is still there."""
        # Nobody has waited for the driver: the number is nobody else's.
        os.killpg(self.pid, signal.SIGKILL)
        self.child.wait()

    def open(self, url):
        self.ask("/url", {"url": url})

    def script(self, text):
        return self.ask("/execute/sync", {"script": text, "args": []})

    def script_async(self, text):
        return self.ask("/execute/async", {"script": text, "args": []})

    def ask(self, path, body=None, method="POST"):
        request = urllib.request.Request(self.base + path, json.dumps(body).encode() if body else None, method=method,
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]


def event_names():
    """What the simulator can send."""
    names = (path.stem for path in (ROOT / "src/simulator/payloads").glob("*.json"))
    return sorted(name for name in names if name != "RESUMED" and name == name.upper())
