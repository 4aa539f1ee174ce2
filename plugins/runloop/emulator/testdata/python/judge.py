"""The vendor's Python client, unmodified, judges the emulator: every check goes through its own helper methods."""

import asyncio
import os
import sys
import time
import traceback
import urllib.error
import urllib.request

import runloop_api_client as runloop
from runloop_api_client import AsyncRunloopSDK, Runloop, RunloopSDK

sdk = RunloopSDK()
api = sdk.api
TUNNEL = os.environ["RUNLOOP_TUNNEL_TEMPLATE"]


def refused(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError(f"{call} was not refused with {kind}")


def lifecycle(_):
    box = sdk.devbox.create(
        name="judge", metadata={"team": "a"}, environment_variables={"COLOUR": "blue"},
        launch_parameters={"resource_size_request": "SMALL", "keep_alive_time_seconds": 600, "launch_commands": ["echo ready > /tmp/ready"]},
    )
    info = box.get_info()
    assert info.status == "running" and info.name == "judge" and info.metadata == {"team": "a"}, info
    assert info.launch_parameters.keep_alive_time_seconds == 600
    assert info.tunnel is None and info.end_time_ms is None and info.initiator_type == "api"
    assert box.cmd.exec("cat /tmp/ready; echo $COLOUR").stdout() == "ready\nblue\n"
    assert any(one.id == box.id for one in api.devboxes.list(limit=1))
    box.keep_alive()
    assert box.shutdown().status == "shutdown" and box.shutdown().shutdown_reason == "api_shutdown"


def executions(box):
    result = box.cmd.exec("echo out; echo err >&2; exit 42")
    assert (result.exit_code, result.stdout(), result.stderr(), result.failed) == (42, "out\n", "err\n", True)
    assert box.cmd.exec("true").stdout() == ""
    raw = api.devboxes.execute_and_await_completion(box.id, command="seq 5", last_n="3")
    assert raw.stdout == "3\n4\n5\n" and raw.stdout_truncated, raw
    assert len(box.cmd.exec("seq 2000").stdout().splitlines()) == 2000
    assert box.cmd.exec("seq 1000").stdout(num_lines=2) == "999\n1000"


def streams(box):
    got, start = [], time.monotonic()
    result = box.cmd.exec(
        "echo one; sleep 1.5; echo two; echo three >&2",
        stdout=lambda line: got.append(("out", line, time.monotonic() - start)), stderr=lambda line: got.append(("err", line, 0)),
    )
    assert result.exit_code == 0
    out = [one for one in got if one[0] == "out"]
    assert "".join(one[1] for one in out).replace("\n", "") == "onetwo" and out[0][2] < 1.4, got
    assert any("three" in one[1] for one in got if one[0] == "err")
    chunks = list(api.devboxes.executions.stream_stdout_updates(result.execution_id, devbox_id=box.id, offset="4"))
    assert "".join(chunk.output for chunk in chunks) == "two\n" and chunks[-1].offset == 8, chunks


def asynchronous(box):
    execution = box.cmd.exec_async("sleep 600")
    assert execution.get_state().status == "running"
    execution.kill()
    assert execution.result().exit_code != 0


def shells(box):
    if not hasattr(box, "shell"):
        print("-- this client has no named shells")
        return
    shell = box.shell("main")
    shell.exec("cd /tmp && export KEEP=me")
    assert shell.exec("pwd; echo $KEEP").stdout() == "/tmp\nme\n"


def files(box):
    box.file.write(file_path="~/dir/a.txt", contents="Grüße\n")
    assert box.file.read(file_path="/home/user/dir/a.txt") == "Grüße\n"
    data = bytes([0, 255, 10, 13, 128])
    box.file.upload(path="/tmp/up.bin", file=data)
    assert box.file.download(path="/tmp/up.bin") == data
    refused(runloop.NotFoundError, box.file.download, path="/tmp/none")


def logs(box):
    result = box.cmd.exec("echo findme-in-the-log")
    assert any("findme" in (line.message or "") for line in box.logs(execution_id=result.execution_id).logs)


def snapshots(box):
    box.file.write(file_path="/tmp/kept.txt", contents="kept")
    snapshot = box.snapshot_disk(name="judge-snap", metadata={"v": "py"}, commit_message="first")
    assert snapshot.get_info().status == "complete"
    copy = snapshot.create_devbox(name="copy")
    assert copy.get_info().snapshot_id == snapshot.id and copy.file.read(file_path="/tmp/kept.txt") == "kept"
    copy.shutdown()
    snapshot.delete()
    assert snapshot.get_info().status == "deleted"
    snapshot.delete()


def suspend(box):
    box.file.write(file_path="stays.txt", contents="stays")
    box.cmd.exec("nohup sleep 4243 >/dev/null 2>&1 &")
    box.suspend()
    assert box.get_info().status == "suspended"
    refused(runloop.BadRequestError, api.devboxes.suspend, box.id)
    api.devboxes.resume(box.id)
    assert box.get_info().status in ("suspended", "running", "starting", "provisioning", "initializing")
    assert box.await_running().status == "running"
    assert box.file.read(file_path="stays.txt") == "stays"
    assert box.cmd.exec("pgrep -f 'sleep 424[3]' || echo gone").stdout() == "gone\n"


def fetch(url, token=None):
    request = urllib.request.Request(url, headers={"X-Runloop-Tunnel-Authorization": f"Bearer {token}"} if token else {})
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return error.code, ""
        time.sleep(0.05)
    raise AssertionError("the port never answered")


def tunnels(box):
    assert box.get_tunnel_url(8080) is None
    tunnel = box.net.enable_tunnel(auth_mode="authenticated")
    assert box.get_tunnel_url(8080).startswith(f"https://8080-{tunnel.tunnel_key}.tunnel.")
    refused(runloop.BadRequestError, box.net.enable_tunnel)
    box.cmd.exec_async("mkdir -p www && cd www && echo served > index.html && exec python3 -m http.server 8080")
    url = TUNNEL.replace("{port}", "8080").replace("{key}", tunnel.tunnel_key) + "/index.html"
    assert fetch(url)[0] == 401
    assert fetch(url, tunnel.auth_token) == (200, "served\n")
    box.net.remove_tunnel()
    assert box.get_tunnel() is None


def terminals(box):
    tunnel = api.devboxes.create_pty_tunnel(box.id)
    base = TUNNEL.replace("{port}", "13").replace("{key}", tunnel.tunnel_key)
    pty = Runloop(base_url=base, bearer_token=tunnel.auth_token).pty
    view = pty.connect("main", cols=100, rows=30)
    assert view.created and view.cols == 100 and not pty.connect("main").created
    pty.control("main", action="resize", cols=120, rows=40)
    pty.control("main", action="close")


def errors(_):
    assert refused(runloop.BadRequestError, api.devboxes.retrieve, "dbx_nonexistent12345").status_code == 400
    refused(runloop.NotFoundError, api.devboxes.retrieve, "dbx_000000000000000000000")
    refused(runloop.AuthenticationError, Runloop(bearer_token="wrong").devboxes.list)


def resources(_):
    secret = api.secrets.create(name="JUDGE_PY", value="hidden")
    assert secret.id.startswith("sec_")
    policy = sdk.network_policy.create(name="judge-py", allowed_hostnames=["*.example.org"])
    assert policy.get_info().egress.allowed_hostnames == ["*.example.org"]
    policy.delete()
    api.secrets.delete("JUDGE_PY")
    blueprint = sdk.blueprint.create(name="judge-py", system_setup_commands=["echo set > /tmp/set"])
    box = blueprint.create_devbox()
    assert box.cmd.exec("cat /tmp/set").stdout() == "set\n"
    box.shutdown()
    blueprint.delete()
    stored = sdk.storage_object.upload_from_text("stored", name="judge.txt")
    assert stored.download_as_text() == "stored"
    stored.delete()
    assert api.accounts.me().account_status == "ACCOUNT_STATUS_ENABLED"


def asyncio_client(_):
    async def run():
        other = AsyncRunloopSDK()
        box = await other.devbox.create()
        results = await asyncio.gather(*[box.cmd.exec(f"sleep 0.2; echo {n}") for n in range(5)])
        assert [await result.stdout() for result in results] == [f"{n}\n" for n in range(5)]
        await box.shutdown()
        await other.aclose()

    asyncio.run(run())


def main():
    shared = sdk.devbox.create(name="shared")
    failed = 0
    for check in (lifecycle, executions, streams, asynchronous, shells, files, logs, snapshots, suspend, tunnels, terminals, errors,
                  resources, asyncio_client):
        try:
            check(shared)
            print(f"ok {check.__name__}")
        except Exception:
            failed += 1
            print(f"FAIL {check.__name__}: {traceback.format_exc()}")
    shared.shutdown()
    sys.exit(1 if failed else 0)


main()
