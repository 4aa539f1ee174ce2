#!/usr/bin/env python3
"""A client of OpenHands' V0 runtime protocol, written from the protocol's facts with the standard library alone.

It goes through the messages that OpenHands 0.62 sends for a new remote session, as RemoteRuntime sends them, prints each, and ends
with status 1 at the first answer that OpenHands could not live with.

  SANDBOX_API_KEY=KEY v0client.py URL            the runtime API at URL: from "no such session" to its end
  SESSION_API_KEY=KEY v0client.py --direct URL   one sandbox that answers at URL: from /alive on
"""

import argparse
import http.client
import io
import json
import os
import sys
import threading
import time
import urllib.parse
import uuid
import zipfile

# What an observation may hold, by its kind: OpenHands' classes take no other extras.
EXTRAS = {
    "run": ({"command", "metadata"}, {"hidden"}),
    "run_ipython": ({"code"}, {"image_urls"}),
    "read": ({"path"}, {"impl_source"}),
    "write": ({"path"}, set()),
    "edit": (set(), {"path", "prev_exist", "old_content", "new_content", "impl_source", "diff", "_diff_cache"}),
    "error": (set(), {"error_id"}),
}
METADATA = {"exit_code", "pid", "username", "hostname", "working_dir", "py_interpreter_path", "prefix", "suffix"}
ACTION_TIMEOUT = 120.0
# How long a sandbox may take to be ready, and how often it is asked; both are the client's own.
READY_WITHIN, READY_EVERY = 180.0, 2.0


class Deviation(Exception):
    """An answer that OpenHands could not live with."""


def want(condition, what, *evidence):
    if not condition:
        raise Deviation(" ".join([what, *(short(e) for e in evidence)]))


def short(value, most=600):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else text[:most] + "..."


class Peer:
    """One URL, one connection that is kept, one set of headers: what httpx does for a session."""

    def __init__(self, name, url, headers):
        parts = urllib.parse.urlsplit(url)
        want(parts.scheme in ("http", "https") and parts.netloc, "not a URL:", url)
        self.name, self.prefix, self.headers = name, parts.path, dict(headers)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(parts.netloc)

    def request(self, method, path, body=None, headers=None, timeout=60.0, key=True):
        """Returns status, headers, body. A connection that ends without an answer is a deviation, as it makes OpenHands repeat."""
        self.connection.timeout = timeout
        if self.connection.sock:
            self.connection.sock.settimeout(timeout)
        own = {k: v for k, v in self.headers.items() if key or k != "X-Session-API-Key"}
        sent = dict(own, **(headers or {}))
        try:
            self.connection.request(method, self.prefix + path, body=body, headers=sent)
            answer = self.connection.getresponse()
            raw = answer.read()
        except (OSError, http.client.HTTPException) as e:
            raise Deviation(f"{method} {path}: no answer: {e!r}") from e
        say(self.name, f"{method} {path.split('?')[0]} -> {answer.status}")
        return answer.status, answer.headers, raw

    def json(self, method, path, value=None, expect=200, **more):
        body, headers = None, {}
        if value is not None:
            body, headers = json.dumps(value).encode(), {"Content-Type": "application/json"}
        status, _, raw = self.request(method, path, body, headers, **more)
        try:
            parsed = json.loads(raw)
        except ValueError:
            parsed = None
            want(status >= 400, f"{method} {path}: the body is no JSON:", raw.decode("utf-8", "replace"))
        if status >= 400:
            want(parsed is None or isinstance(parsed, dict), f"{method} {path}: an error body is no object:", parsed)
        allowed = expect if isinstance(expect, tuple) else (expect,)
        want(status in allowed, f"{method} {path}: {status} instead of {allowed}:", parsed)
        return (status, parsed) if isinstance(expect, tuple) else parsed


def say(name, text):
    print(f"[{name}] {text}", flush=True)


class Sandbox:
    """The action execution client, and the checks of what it relies on."""

    def __init__(self, name, url, headers, options):
        want(not url.endswith("/"), "the URL ends with a slash:", url)
        self.peer, self.options, self.events = Peer(name, url, headers), options, 0
        self.name, self.headers, self.url = name, headers, url

    def action(self, kind, args, timeout=ACTION_TIMEOUT, expect=200):
        self.events += 1
        event = {"id": self.events, "timestamp": "2025-11-28T10:00:00.123456", "source": "agent", "message": "…", "action": kind,
                 "args": args, "timeout": timeout}
        if timeout is None:
            del event["timeout"]
        return self.peer.json("POST", "/execute_action", {"action": event}, timeout=(timeout or 600) + 5, expect=expect)

    def observe(self, kind, args, expect, timeout=ACTION_TIMEOUT):
        o = self.action(kind, args, timeout)
        seen, extras = o.get("observation"), o.get("extras")
        want(seen in expect, f"{kind} is answered by {seen}, not {expect}:", o)
        want(isinstance(extras, dict), "no extras:", o)
        required, known = EXTRAS[seen]
        want(required <= set(extras) <= required | known, f"extras of {seen}:", sorted(extras))
        want(isinstance(o.get("content"), str) and isinstance(o.get("message"), str), "no text:", o)
        if seen in ("run", "run_ipython"):
            want(isinstance(o.get("success"), bool), "no success:", o)
        if seen == "run":
            want(set(extras["metadata"]) == METADATA, "metadata:", extras["metadata"])
            want(o["success"] == (extras["metadata"]["exit_code"] == 0), "success does not fit the exit code:", o)
        return o

    def run(self, command, code=0, timeout=ACTION_TIMEOUT, **args):
        full = {"command": command, "is_input": False, "thought": "", "blocking": False, "is_static": False, "cwd": None,
                "hidden": False, "confirmation_state": "confirmed", "security_risk": -1}
        o = self.observe("run", dict(full, **args), ("run",), timeout)
        got = o["extras"]["metadata"]["exit_code"]
        want(code is None or got == code, f"{short(command, 80)!r} ended with {got}, not {code}:", o)
        return o

    def cell(self, code):
        o = self.observe("run_ipython", {"code": code, "thought": "", "include_extra": True, "confirmation_state": "confirmed",
                                         "security_risk": -1, "kernel_init_code": ""}, ("run_ipython",))
        want("\n[Jupyter current working directory: " in o["content"] and "\n[Jupyter Python interpreter: " in o["content"], "no extra lines:", o)
        return o["content"].split("\n[Jupyter current working directory: ")[0]

    def read(self, path, expect=("read", "error")):
        return self.observe("read", {"path": path, "start": 0, "end": -1, "thought": "", "security_risk": -1, "impl_source": "default",
                                     "view_range": None}, expect)

    def absent(self, path):
        o = self.read(path, ("error",))
        want("File not found" in o["content"], "the wording of a missing file:", o)

    # The steps of section 12, after the sandbox has a URL.

    def alive(self):
        status, body = self.peer.json("GET", "/alive", timeout=5, expect=(200,), key=False)
        want(body == {"status": "ok"}, "/alive:", body)
        info = self.peer.json("GET", "/server_info", key=False)
        want({"uptime", "idle_time", "resources"} <= set(info), "/server_info:", info)
        want({"cpu_percent", "memory", "disk", "io"} <= set(info["resources"]), "/server_info:", info)
        for path in ("/execute_action", "/nowhere"):
            body = self.peer.json("POST", path, {"action": {}}, expect=403, key=False)
            want(body == {"detail": "Invalid API Key"}, f"{path} without the key:", body)

    def environment(self, variables):
        if self.options.jupyter:
            self.cell("import os\n" + "".join(f"os.environ[{json.dumps(k)}] = {json.dumps(v)}\n" for k, v in variables.items()))
        exports = " ".join(f"export {k}={json.dumps(v)};" for k, v in variables.items())
        self.run(exports.strip())
        self.run(" ".join(f'touch ~/.bashrc; grep -q "^export {k}=" ~/.bashrc || echo "export {k}={json.dumps(v)}" >> ~/.bashrc;'
                          for k, v in variables.items()))
        self.run('git config --global user.name "openhands" && git config --global user.email "openhands@all-hands.dev"')

    def workspace(self):
        root = self.options.workspace
        self.run(f"git init && git config --global --add safe.directory {root}")
        if self.options.editor:
            self.absent(".openhands/setup.sh")
            self.absent(".openhands/pre-commit.sh")
            self.absent(f"{root}/.openhands_instructions")
        listed = self.peer.json("POST", "/list_files", {"path": f"{root}/.openhands/microagents"}, timeout=10)
        want(listed == [], "microagents of an empty workspace:", listed)
        server = [{"name": "fetch", "command": "uvx", "args": ["mcp-server-fetch"], "env": {}}]
        answer = self.peer.json("POST", "/update_mcp_server", server)
        want(isinstance(answer.get("router_error_log"), str), "/update_mcp_server:", answer)

    def work(self, marker):
        """What an agent does: shell, cell, editor, both ways of copying."""
        root = self.options.workspace
        o = self.run("echo $MARKER; pwd")
        want(o["content"] == f"{marker}\n{root}", "environment or directory:", o)
        want(o["extras"]["metadata"]["suffix"] == "\n[The command completed with exit code 0.]", "suffix:", o)
        self.run("unknown-command-xyz", code=127)
        self.shell()
        self.static()
        if self.options.jupyter:
            want(self.cell("x = 6 * 7\nprint(x)").strip() == "42", "the cell")
            want(self.cell("import os; print(x, os.environ['MARKER'], os.getcwd())").strip() == f"42 {marker} {root}", "the kernel's state")
        if self.options.editor:
            self.edit()
        self.copies()
        o = self.observe("browse", {"url": "http://localhost", "thought": "", "security_risk": -1, "return_axtree": False}, ("error", "browse")) \
            if not self.options.browser else None
        if o:
            want(o["content"] == "Browser functionality is not supported or disabled.", "no browser:", o)
        body = self.action("think", {"thought": "x"}, expect=500)
        want(body["detail"].startswith("Internal server error: "), "an action that no sandbox runs:", body)

    def shell(self):
        """A command that asks, one that goes on, and one that is stopped."""
        o = self.run("read -p 'name? ' x; echo hello $x", code=-1, timeout=1)
        want("timed out after 1.0 seconds" in o["extras"]["metadata"]["suffix"], "the hard timeout:", o)
        o = self.run("echo no", code=-1, timeout=1)
        want("is NOT executed" in o["extras"]["metadata"]["suffix"], "a command beside a running one:", o)
        o = self.run("world", is_input=True)
        want("hello world" in o["content"], "input:", o)
        self.run("sleep 1000", code=-1, timeout=1)
        o = self.run("C-c", code=130, is_input=True)
        want(o["extras"]["metadata"]["suffix"] == "\n[The command completed with exit code 130. CTRL+C was sent.]", "the suffix of C-c:", o)
        o = self.run("seq 1 20000", hidden=False)
        want(len(o["content"]) < 31000 and "[... Observation truncated due to length ...]" in o["content"], "truncation:", len(o["content"]))

    def static(self):
        """As git changes are asked for: hidden, in a shell of its own, untruncated."""
        root = self.options.workspace
        o = self.run("seq 1 9000", is_static=True, hidden=True, cwd=root)
        want(o["content"].split("\n") == [str(n) for n in range(1, 9001)], "a hidden output is whole:", len(o["content"]))
        self.run("python3 /openhands/code/openhands/runtime/utils/git_changes.py", code=None, is_static=True, hidden=True, cwd=root)
        o = self.run("git branch --show-current", code=None, is_static=True, hidden=True, cwd=root)
        want(o["extras"]["hidden"] is True, "hidden is told:", o)

    def edit(self):
        path = f"{self.options.workspace}/edited.txt"
        o = self.observe("write", {"path": path, "content": "one\ntwo", "start": 0, "end": -1, "thought": "", "security_risk": -1}, ("write",))
        want(o["extras"]["path"] == path and o["content"] == "", "write:", o)
        args = {"path": path, "command": "str_replace", "file_text": None, "old_str": "two", "new_str": "TWO", "insert_line": None, "content": "",
                "start": 1, "end": -1, "thought": "", "security_risk": -1, "impl_source": "oh_aci"}
        o = self.observe("edit", args, ("edit",))
        want(o["content"].startswith(f"The file {path} has been edited. ") and o["extras"]["new_content"] == "TWO", "edit:", o)
        o = self.observe("edit", args, ("edit",))
        want(o["content"].startswith("ERROR:\n"), "an edit that fails:", o)
        want(self.read("edited.txt", ("read",))["content"] == "one\nTWO\n", "what was edited")

    def copies(self):
        root = self.options.workspace
        answer = self.upload(f"{root}/in", "false", "note.txt", b"a note")
        want(answer == {"filename": "note.txt", "destination": f"{root}/in", "recursive": False}, "/upload_file:", answer)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as z:
            z.writestr("tree/leaf.txt", "a leaf")
        self.upload(f"{root}/in", "true", "tree.zip", archive.getvalue())
        listed = self.peer.json("POST", "/list_files", {"path": f"{root}/in"}, timeout=10)
        want(listed == ["tree/", "note.txt"], "/list_files:", listed)
        status, headers, raw = self.peer.request("GET", "/download_files?" + urllib.parse.urlencode({"path": f"{root}/in"}), timeout=30)
        want(status == 200 and headers["Content-Type"] == "application/zip", "/download_files:", status)
        with zipfile.ZipFile(io.BytesIO(raw)) as z:
            got = {name: z.read(name) for name in z.namelist()}
        want(got == {"note.txt": b"a note", "tree/leaf.txt": b"a leaf"}, "what was downloaded:", got)

    def upload(self, destination, recursive, name, content):
        boundary = uuid.uuid4().hex
        body = (f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n").encode() + content + f"\r\n--{boundary}--\r\n".encode()
        query = urllib.parse.urlencode({"destination": destination, "recursive": recursive})
        status, _, raw = self.peer.request("POST", "/upload_file?" + query, body,
                                           {"Content-Type": f"multipart/form-data; boundary={boundary}"}, timeout=300)
        want(status == 200, f"/upload_file: {status}", raw.decode("utf-8", "replace"))
        return json.loads(raw)

    def token(self):
        answer = self.peer.json("GET", "/vscode/connection_token", timeout=10)
        want("token" in answer and isinstance(answer["token"], (str, type(None))), "/vscode/connection_token:", answer)


class Runtime:
    """The runtime API, as RemoteRuntime uses it."""

    def __init__(self, url, key, sid, options):
        self.headers, self.sid, self.options, self.name = {"X-API-Key": key}, sid, options, sid
        self.api = Peer(sid, url.rstrip("/"), self.headers)
        self.id = None

    def whole(self):
        self.api.json("GET", f"/sessions/{self.sid}", expect=404)
        started = self.start()
        self.ready()
        sandbox = self.sandbox(started)
        marker = f"marker-of-{self.sid}"
        sandbox.alive()
        sandbox.environment({"MARKER": marker})
        sandbox.workspace()
        sandbox.work(marker)
        sandbox.token()
        self.listed()
        self.paused(sandbox, started, marker)
        self.ended()

    def start(self):
        command = ("/openhands/micromamba/bin/micromamba run -n openhands poetry run python -u -m openhands.runtime.action_execution_server "
                   f"60000 --working-dir {self.options.workspace} --plugins agent_skills jupyter vscode --username openhands --user-id 1000 "
                   "--no-enable-browser").split()
        answer = self.api.json("POST", "/start", {
            "image": "openhands-rt:any", "command": command, "working_dir": "/openhands/code/", "environment": {"DEBUG": "true"},
            "session_id": self.sid, "resource_factor": 1}, timeout=180, expect=(200, 201))[1]
        self.record(answer)
        self.id = answer["runtime_id"]
        return answer

    def record(self, answer):
        """A runtime as the API tells it: no key is null, the URL can be appended to."""
        for key in ("runtime_id", "url"):
            want(isinstance(answer.get(key), str) and answer[key], f"no {key}:", answer)
        want(all(value is not None for value in answer.values()), "a null:", answer)
        want(isinstance(answer.get("work_hosts", {}), dict), "work_hosts:", answer)

    def ready(self):
        until = time.monotonic() + READY_WITHIN
        while True:
            answer = self.api.json("GET", f"/runtime/{self.id}", timeout=180)
            want(answer["runtime_id"] == self.id, "another runtime:", answer)
            status = answer["pod_status"].lower()
            if status == "ready":
                return
            want(status not in ("failed", "unknown", "crashloopbackoff"), "the runtime is", status)
            want(time.monotonic() < until, "it is not ready in time:", answer)
            time.sleep(READY_EVERY)

    def sandbox(self, record):
        headers = dict(self.headers)
        if "session_api_key" in record:
            headers["X-Session-API-Key"] = record["session_api_key"]
        return Sandbox(self.name, record["url"], headers, self.options)

    def listed(self):
        answer = self.api.json("GET", "/list")
        mine = [r for r in answer["runtimes"] if r.get("session_id") == self.sid]
        want(len(mine) == 1 and mine[0]["runtime_id"] == self.id and mine[0]["status"] == "running", "/list:", answer)
        want(isinstance(answer["total"], int), "/list:", answer)
        record = self.api.json("GET", f"/sessions/{self.sid}")
        self.record(record)
        want(record["status"] == "running" and record["pod_status"].lower() == "ready", "/sessions:", record)

    def paused(self, sandbox, started, marker):
        """Pause, and the way back: the same URL and key, 503 in between."""
        sandbox.run("echo kept > kept.txt")
        self.api.json("POST", "/pause", {"runtime_id": self.id}, timeout=180)
        record = self.api.json("GET", f"/sessions/{self.sid}")
        want(record["status"] == "paused", "after /pause:", record)
        sandbox.peer.json("GET", "/alive", timeout=5, expect=503)
        sandbox.action("run", {"command": "echo no"}, expect=503)
        self.api.json("POST", "/resume", {"runtime_id": self.id}, timeout=180)
        self.ready()
        record = self.api.json("GET", f"/sessions/{self.sid}")
        want(record["url"] == started["url"] and record.get("session_api_key") == started.get("session_api_key"), "after /resume:", record)
        sandbox = self.sandbox(record)
        sandbox.alive()
        sandbox.environment({"MARKER": marker})
        sandbox.run("grep -qx kept kept.txt")

    def ended(self):
        for _ in range(2):
            self.api.json("POST", "/stop", {"runtime_id": self.id}, timeout=180)
        status, record = self.api.json("GET", f"/sessions/{self.sid}", expect=(200, 404))
        want(status == 404 or record["status"] == "stopped", "after /stop:", record)
        answer = self.api.json("GET", "/list")
        want(all(r.get("session_id") != self.sid for r in answer["runtimes"]), "/list after /stop:", answer)


def direct(options):
    sandbox = Sandbox("direct", options.url, {"X-Session-API-Key": os.environ["SESSION_API_KEY"]}, options)
    sandbox.alive()
    sandbox.environment({"MARKER": "marker"})
    sandbox.workspace()
    sandbox.work("marker")
    sandbox.token()


def sessions(options):
    """Every session in a thread of its own; the failures of all are told."""
    failures = []

    def one(sid):
        try:
            Runtime(options.url, os.environ["SANDBOX_API_KEY"], sid, options).whole()
        except Exception as e:  # noqa: BLE001 - told below
            failures.append(f"{sid}: {e if isinstance(e, Deviation) else repr(e)}")

    threads = [threading.Thread(target=one, args=(f"{options.sid}-{n}",)) for n in range(1, options.sessions + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    want(not failures, "; ".join(failures))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of the runtime API, or of a sandbox with --direct")
    parser.add_argument("--direct", action="store_true", help="URL is a sandbox")
    parser.add_argument("--workspace", default="/workspace", help="the working directory")
    parser.add_argument("--sid", default=uuid.uuid4().hex[:12], help="how the names of the sessions begin")
    parser.add_argument("--sessions", type=int, default=1, help="how many there are at once")
    parser.add_argument("--no-jupyter", dest="jupyter", action="store_false", help="the sandbox has no IPython")
    parser.add_argument("--no-editor", dest="editor", action="store_false", help="the sandbox has no read, write, edit")
    parser.add_argument("--browser", action="store_true", help="the sandbox has a browser")
    options = parser.parse_args()
    try:
        direct(options) if options.direct else sessions(options)
    except Deviation as e:
        print(f"v0client: {e}", file=sys.stderr)
        return 1
    print("v0client: all as it should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
