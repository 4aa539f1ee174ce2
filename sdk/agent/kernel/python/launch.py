"""Runs ipykernel for the agent: launch.py CONNECTION_FILE SETTINGS, a JSON object with
    directory  the working directory of the user's code
    packages   folders that are added at the end of sys.path
    ready      a descriptor that gets one line of JSON once every socket is there
    life       a descriptor; its end is the end of the kernel, however the agent has died

The current folder is that of the sockets, whose names are relative: a path to a socket may have 107 bytes, and a folder's name can
be longer than that alone.
"""

import json
import os
import sys
import threading

# Python puts the folder of this program there; the user's code has nothing to look for in it.
sys.path.pop(0)

import ipykernel  # noqa: E402
from ipykernel.kernelapp import IPKernelApp  # noqa: E402
from jupyter_client.session import Session  # noqa: E402

# How many characters one message may carry: a stream goes in several, anything else is cut. The agent takes 16 MiB.
STREAM = 256 * 1024
RESULT = 1024 * 1024
IMAGE = 8 * 1024 * 1024
CUT = "\n[... {} characters left out ...]\n"


def cut(text):
    if not isinstance(text, str) or len(text) <= RESULT:
        return text
    half = RESULT // 2
    return text[:half] + CUT.format(len(text) - RESULT) + text[-half:]


def cut_display(data):
    """Leaves of what is displayed only what the agent reads."""
    small = {"text/plain": cut(data.get("text/plain", ""))}
    png = data.get("image/png")
    if isinstance(png, bytes):
        png = png.decode("ascii", "replace")
    if isinstance(png, str):
        if len(png) <= IMAGE:
            small["image/png"] = png
        else:
            small["text/plain"] += f"\n[An image of {len(png) * 3 // 4} bytes was left out.]"
    return small


class BoundedSession(Session):
    """A session whose messages are bounded, whatever the user's code prints or shows."""

    def send(self, stream, msg_or_type, content=None, parent=None, ident=None, *args, **kwargs):
        kind = msg_or_type["header"]["msg_type"] if isinstance(msg_or_type, dict) else msg_or_type
        body = msg_or_type["content"] if isinstance(msg_or_type, dict) else content
        if kind == "stream" and len(body["text"]) > STREAM:
            if isinstance(msg_or_type, dict):
                parent = parent or msg_or_type.get("parent_header")
            for at in range(0, len(body["text"]), STREAM):
                piece = {"name": body["name"], "text": body["text"][at : at + STREAM]}
                super().send(stream, kind, piece, parent, ident, *args, **kwargs)
            return None
        small = self._smaller(kind, body)
        if small is not body:
            if isinstance(msg_or_type, dict):
                msg_or_type = {**msg_or_type, "content": small}
            else:
                content = small
        return super().send(stream, msg_or_type, content, parent, ident, *args, **kwargs)

    @staticmethod
    def _smaller(kind, body):
        if kind in ("execute_result", "display_data", "update_display_data"):
            return {**body, "data": cut_display(body["data"]), "metadata": {}}
        if kind in ("error", "execute_reply") and "traceback" in body:
            return {**body, "traceback": [cut("\n".join(body["traceback"]))], "evalue": cut(body.get("evalue", ""))}
        if kind == "execute_reply":
            return {**body, "payload": []}
        if kind == "execute_input":
            return {**body, "code": ""}  # We have sent it.
        return body


class App(IPKernelApp):
    """ipykernel, but that it loses no output when the agent is slow, and says when it is ready."""

    settings = None

    def _session_default(self):
        return BoundedSession(parent=self)

    def _bind_socket(self, s, port):
        s.sndhwm = 0  # The default is to drop what comes after 1000 messages.
        return super()._bind_socket(s, port)

    def start(self):
        os.chdir(self.settings["directory"])
        sys.path.extend(self.settings["packages"])
        # What a pager would show belongs to the output: `name?` is answered with it.
        self.shell.set_hook("show_in_pager", page, 0)
        threading.Thread(target=watch, args=(self.settings["life"],), daemon=True, name="agent").start()
        ready = {"python": sys.executable, "version": sys.version.split()[0], "ipykernel": ipykernel.__version__}
        os.write(self.settings["ready"], json.dumps(ready).encode() + b"\n")
        os.close(self.settings["ready"])
        super().start()


def page(shell, data, start=0, screen_lines=0, pager_cmd=None):
    print(data["text/plain"] if isinstance(data, dict) else data)


def watch(life):
    """Ends the process with its agent."""
    os.set_inheritable(life, False)
    try:
        os.read(life, 1)
    finally:
        os._exit(1)


def main():
    App.settings = json.loads(sys.argv[2])
    os.set_inheritable(App.settings["ready"], False)
    # No history file: cells may hold secrets, and the file costs time at the start.
    arguments = ["-f", sys.argv[1], "--HistoryManager.hist_file=:memory:", "--IPCompleter.use_jedi=False"]
    app = App.instance()
    app.initialize(arguments)
    app.start()


main()
