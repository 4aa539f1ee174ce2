"""Drives the RemoteRuntime of an installed OpenHands, unmodified, against the daemon that the environment names.

The settings are those of the README's section "Use it from OpenHands", read from the environment as OpenHands does. Exit status 0
means that every step did what OpenHands' own users see.
"""

import asyncio
import os
import pathlib
import sys
import tempfile
import uuid
import zipfile

import httpx
from openhands.core.config import OpenHandsConfig
from openhands.core.config.utils import load_from_env
from openhands.core.setup import create_runtime
from openhands.events import EventStream
from openhands.events.action import CmdRunAction, FileEditAction, FileReadAction, FileWriteAction, IPythonRunCellAction
from openhands.llm.llm_registry import LLMRegistry
from openhands.runtime.impl.remote.remote_runtime import RemoteRuntime
from openhands.storage import get_file_store

FAILED = []


def check(step, ok, seen=''):
    print(('ok    ' if ok else 'FAIL  ') + step + ('' if ok else f': {seen} {getattr(seen, "content", "")}'), flush=True)
    if not ok:
        FAILED.append(step)


def settings(keep_alive):
    config = OpenHandsConfig()
    load_from_env(config, dict(os.environ))
    config.file_store, config.file_store_path = 'local', tempfile.mkdtemp(prefix='try-openhands-')
    config.sandbox.keep_runtime_alive = keep_alive
    return config


def run(runtime, command, timeout=60):
    action = CmdRunAction(command=command)
    action.set_hard_timeout(timeout)
    return runtime.run_action(action)


def shell(runtime):
    obs = run(runtime, 'cd /workspace && export KEPT=yes && echo hello from $(whoami) in $PWD')
    check('run', obs.exit_code == 0 and 'in /workspace' in obs.content, obs)
    check('run: a failing command', run(runtime, 'false').exit_code == 1)
    obs = run(runtime, 'for i in 1 2 3; do echo $i; sleep 5; done', timeout=1)
    check('run: hard timeout', obs.exit_code == -1 and 'timed out after 1' in obs.metadata.suffix, obs)
    obs = runtime.run_action(CmdRunAction(command='C-c', is_input=True))
    check('run: C-c', obs.exit_code == 130, obs)
    check('git config', 'openhands' in run(runtime, 'git config --global user.name').content)
    check('git without a pager', '--no-pager' in run(runtime, 'alias git').content)


def cells(runtime):
    obs = runtime.run_action(IPythonRunCellAction(code='import os\nx = 6 * 7\nprint(x, os.getcwd())'))
    check('cell', '42 /workspace' in obs.content and 'Jupyter Python interpreter' in obs.content, obs)
    obs = runtime.run_action(IPythonRunCellAction(code='x + 1'))
    check('cell: state', obs.content.startswith('43'), obs)
    obs = runtime.run_action(IPythonRunCellAction(code='1/0'))
    check('cell: exception', 'ZeroDivisionError' in obs.content, obs)


def files(runtime):
    obs = runtime.run_action(FileWriteAction(path='/workspace/a.txt', content='one\ntwo\n'))
    check('write', obs.observation == 'write', obs)
    obs = runtime.run_action(FileEditAction(path='/workspace/a.txt', command='str_replace', old_str='two', new_str='TWO', impl_source='oh_aci'))
    check('edit', obs.observation == 'edit' and 'has been edited' in obs.content, obs)
    obs = runtime.run_action(FileReadAction(path='/workspace/a.txt'))
    check('read', 'TWO' in obs.content, obs)
    obs = runtime.run_action(FileReadAction(path='/workspace/nowhere'))
    check('read: no such file', obs.observation == 'error' and 'File not found' in obs.content, obs)


def copies(runtime):
    here = pathlib.Path(tempfile.mkdtemp(prefix='try-openhands-'))
    tree = here / 'tree'
    (tree / 'sub').mkdir(parents=True)
    (tree / 'sub' / 'b.txt').write_text('bee')
    runtime.copy_to(str(tree / 'sub' / 'b.txt'), '/workspace/in')
    check('copy in', run(runtime, 'cat /workspace/in/b.txt').content.strip() == 'bee')
    runtime.copy_to(str(tree), '/workspace/in', recursive=True)
    check('copy in, recursive', run(runtime, 'cat /workspace/in/tree/sub/b.txt').content.strip() == 'bee')
    check('list files', runtime.list_files('/workspace/in') == ['tree/', 'b.txt'], runtime.list_files('/workspace/in'))
    check('list files: no folder', runtime.list_files('/nowhere') == [])
    with zipfile.ZipFile(runtime.copy_from('/workspace/in')) as z:
        check('copy out', sorted(z.namelist()) == ['b.txt', 'tree/sub/b.txt'], z.namelist())


def wake(runtime):
    sandbox = runtime.config.sandbox
    httpx.post(f'{sandbox.remote_runtime_api_url}/pause', json={'runtime_id': runtime.runtime_id}, headers={'X-API-Key': sandbox.api_key}).raise_for_status()
    # Not by an action: this client sets up its environment while it still holds the lock of the action that found the runtime paused,
    # and waits for itself.
    check('a request wakes a paused runtime', 'a.txt' in runtime.list_files('/workspace'))
    check('the shell went on', run(runtime, 'echo $KEPT').content.strip() == 'yes')


def attach(config, sid):
    stream = EventStream(sid, get_file_store(config.file_store, config.file_store_path))
    return RemoteRuntime(config=config, event_stream=stream, llm_registry=LLMRegistry(config), sid=sid, attach_to_existing=True)


async def main():
    sid = 'try-' + uuid.uuid4().hex[:8]
    config = settings(keep_alive=True)
    runtime = create_runtime(config, sid=sid, headless_mode=False)
    plugins = sorted(p.name for p in runtime.plugins)
    check('plugins are requested', plugins == ['agent_skills', 'jupyter', 'vscode'], plugins)
    await runtime.connect()
    check('connect', runtime.runtime_initialized)
    check('vscode token', isinstance(runtime.get_vscode_token(), str))
    check('web hosts', sorted(runtime.web_hosts.values()) == [12000, 12001], runtime.web_hosts)
    for part in (shell, cells, files, copies, wake):
        try:
            part(runtime)
        except Exception as e:
            check(part.__name__, False, repr(e))
    first = runtime.runtime_id
    runtime.close()  # pauses

    config = settings(keep_alive=False)
    runtime = create_runtime(config, sid=sid, headless_mode=False)
    await runtime.connect()
    check('pause and resume', runtime.runtime_id == first, (first, runtime.runtime_id))
    check('the shell is as it was', run(runtime, 'echo $KEPT').content.strip() == 'yes')
    second = attach(config, sid)
    await second.connect()
    check('attach', run(second, 'cat /workspace/a.txt').content.strip() == 'one\nTWO')
    second.close()
    runtime.close()  # stops
    third = attach(config, sid)
    try:
        await third.connect()
        check('close', False, 'the runtime is still there')
    except Exception as e:
        check('close', 'Could not find existing runtime' in str(e), repr(e))


if __name__ == '__main__':
    asyncio.run(main())
    print(f'{len(FAILED)} steps failed: {", ".join(FAILED)}' if FAILED else 'OpenHands works on this daemon')
    sys.exit(1 if FAILED else 0)
