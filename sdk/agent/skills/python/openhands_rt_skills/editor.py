"""Edits files by commands, with the words that agents know from the edit action. What it changed can be undone while the kernel lives."""

import os
import re

_COMMANDS = ("view", "create", "str_replace", "insert", "undo_edit")
_MOST_BYTES = 10 * 2**20
_MOST_TEXT = 16_000
_CONTEXT = 4
_MOST_HISTORY = 10

_CLIPPED = (
    "<response clipped><NOTE>Due to the max output limit, only part of this {} has been shown to you. You should {}</NOTE>"
)
_CLIPPED_FILE = _CLIPPED.format(
    "file",
    "retry this tool after you have searched inside the file with `grep -n` in order to find the line numbers of what you are "
    "looking for.",
)
_CLIPPED_FOLDER = _CLIPPED.format("directory", "use `ls -la` instead to view large directories incrementally.")
_REVIEW = "Review the changes and make sure they are as expected. Edit the file again if necessary."
_REVIEW_INSERT = (
    "Review the changes and make sure they are as expected (correct indentation, no duplicate lines, etc). Edit the file again if "
    "necessary."
)

_history = {}


class _Refused(Exception):
    pass


def _invalid(name, value, hint):
    return _Refused(f"Invalid `{name}` parameter: {value}. {hint}")


def _need(value, name, command):
    if value is None:
        raise _Refused(f"Parameter `{name}` is required for command: {command}.")
    return value


def _check(command, path):
    if not os.path.isabs(path):
        hint = "The path should be an absolute path, starting with `/`."
        maybe = os.path.join(os.getcwd(), path)
        raise _invalid("path", path, hint + (f" Maybe you meant {maybe}?" if os.path.exists(maybe) else ""))
    exists = os.path.lexists(path)
    if command == "create" and exists:
        raise _invalid("path", path, f"File already exists at: {path}. Cannot overwrite files using command `create`.")
    if command != "create" and not exists:
        raise _invalid("path", path, f"The path {path} does not exist. Please provide a valid path.")
    if command != "view" and os.path.isdir(path):
        raise _invalid("path", path, f"The path {path} is a directory and only the `view` command can be used on directories.")
    if command not in _COMMANDS:
        allowed = ", ".join(_COMMANDS)
        raise _Refused(f"Unrecognized command {command}. The allowed commands for the oh_editor tool are: {allowed}")


def _read(path):
    failed = f"File validation failed for {path}: "
    size = os.path.getsize(path)
    if size > _MOST_BYTES:
        raise _Refused(f"{failed}File is too large ({size / 2**20:.1f}MB). Maximum allowed size is 10MB.")
    try:
        with open(path, "rb") as f:
            raw = f.read()
        text = raw.decode("utf-8")
        if "\0" not in text:
            return text.replace("\r\n", "\n").replace("\r", "\n")
    except OSError as e:
        raise _Refused(f"Ran into {e} while trying to read {path}") from e
    except UnicodeDecodeError:
        pass
    raise _Refused(f"{failed}File appears to be binary and this file type cannot be read or edited by this tool.")


def _write(path, text):
    try:
        with open(path, "w", encoding="utf-8", newline="") as f:
            f.write(text)
    except OSError as e:
        raise _Refused(f"Ran into {e} while trying to write to {path}") from e


def _remember(path, text):
    entries = _history.setdefault(path, [])
    entries.append(text)
    del entries[:-_MOST_HISTORY]


def _clip(text, notice):
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + notice


def _numbered(text, what, first=1):
    lines = _clip(text, _CLIPPED_FILE).split("\n")
    body = "\n".join(f"{n:6}\t{line}" for n, line in enumerate(lines, first))
    return f"Here's the result of running `cat -n` on {what}:\n{body}\n"


def _visible(folder):
    try:
        names = os.listdir(folder)
    except OSError as e:
        raise _Refused(str(e)) from e
    return [os.path.join(folder, n) for n in names if not n.startswith(".")], sum(n.startswith(".") for n in names)


def _folder(path, view_range):
    if view_range:
        raise _invalid("view_range", view_range, "The `view_range` parameter is not allowed when `path` points to a directory.")
    near, hidden = _visible(path)
    found = [path, *near]
    for below in near:
        if os.path.isdir(below):
            found += _visible(below)[0]
    listing = "\n".join(p + "/" if os.path.isdir(p) and not p.endswith("/") else p for p in sorted(found))
    listing = _clip(listing, _CLIPPED_FOLDER)
    text = f"Here's the files and directories up to 2 levels deep in {path}, excluding hidden items:\n{listing}"
    if hidden:
        text += f"\n\n{hidden} hidden files/directories in this directory are excluded. You can use 'ls -la {path}' to see them."
    return text


def _view(path, view_range):
    if os.path.isdir(path):
        return _folder(path, view_range)
    text = _read(path)
    if not view_range:
        return _numbered(text, path)
    if len(view_range) != 2 or not all(isinstance(n, int) for n in view_range):
        raise _invalid("view_range", view_range, "It should be a list of two integers.")
    lines = text.split("\n")
    if lines[-1] == "" and len(lines) > 1:
        lines.pop()
    start, end = view_range
    if not 1 <= start <= len(lines):
        hint = f"Its first element `{start}` should be within the range of lines of the file: [1, {len(lines)}]."
        raise _invalid("view_range", view_range, hint)
    note = ""
    if end > len(lines):
        note = f"NOTE: We only show up to {len(lines)} since there're only {len(lines)} lines in this file.\n"
    end = len(lines) if end == -1 or end > len(lines) else end
    if end < start:
        hint = f"Its second element `{end}` should be greater than or equal to the first element `{start}`."
        raise _invalid("view_range", view_range, hint)
    return note + _numbered("\n".join(lines[start - 1 : end]), path, start)


def _create(path, text):
    _write(path, text)
    _remember(path, text)
    return f"File created successfully at: {path}"


def _places(text, part):
    if part == "":
        return list(range(1, text.count("\n") + 2))
    return [text.count("\n", 0, m.start()) + 1 for m in re.finditer(re.escape(part), text)]


def _replace(path, old, new):
    new = new or ""
    if old == new:
        raise _invalid("new_str", new, "No replacement was performed. `new_str` and `old_str` must be different.")
    text = _read(path)
    at = _places(text, old)
    if not at:
        old, new = old.strip(), new.strip()
        at = _places(text, old)
    if not at:
        raise _Refused(f"No replacement was performed, old_str `{old}` did not appear verbatim in {path}.")
    if len(at) > 1:
        raise _Refused(
            f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines {sorted(set(at))}. "
            "Please ensure it is unique."
        )
    changed = text.replace(old, new, 1)
    _write(path, changed)
    _remember(path, text)
    first = max(0, at[0] - _CONTEXT)
    last = at[0] + _CONTEXT + new.count("\n")
    snippet = "\n".join(changed.split("\n")[first:last])
    return f"The file {path} has been edited. {_numbered(snippet, f'a snippet of {path}', first + 1)}{_REVIEW}"


def _insert(path, line, new):
    text = _read(path)
    lines = text.split("\n")
    count = len(lines) - (lines[-1] == "")
    if isinstance(line, str) and line.isdigit():
        line = int(line)
    if not isinstance(line, int) or not 0 <= line <= count:
        raise _invalid("insert_line", line, f"It should be within the range of allowed values: [0, {count}]")
    pieces = new.split("\n")
    before = "".join(f"{one}\n" for one in lines[:line])
    if line == count and text and not text.endswith("\n"):
        before = text  # The last line has no end, and goes on.
    changed = before + "".join(f"{one}\n" for one in pieces) + text[len(before) :]
    _write(path, changed)
    _remember(path, text)
    first = max(0, line - _CONTEXT)
    snippet = "\n".join(lines[first:line] + pieces + lines[line : min(count, line + _CONTEXT)])
    return f"The file {path} has been edited. {_numbered(snippet, 'a snippet of the edited file', max(1, first + 1))}{_REVIEW_INSERT}"


def _undo(path):
    entries = _history.get(path)
    if not entries:
        raise _Refused(f"No edit history found for {path}.")
    text = entries.pop()
    _write(path, text)
    return f"Last edit to {path} undone successfully. {_numbered(text, path)}"


def file_editor(
    command: str,
    path: str,
    file_text: str | None = None,
    view_range: list[int] | None = None,
    old_str: str | None = None,
    new_str: str | None = None,
    insert_line: int | None = None,
    enable_linting: bool = False,
) -> str:
    """Views, creates and edits files. Returns what happened; a text that begins with ERROR if nothing was done.

    Args:
        command: view, create, str_replace, insert or undo_edit.
        path: the absolute path of a file; for view, of a folder too.
        file_text: the text of a file to create.
        view_range: the first and the last line to view; -1 is the end.
        old_str: the text to replace, which must be there exactly once.
        new_str: the text to put there, or to insert.
        insert_line: the line after which to insert.
        enable_linting: is not looked at.
    """
    try:
        _check(command, path)
        if command == "view":
            return _view(path, view_range)
        if command == "create":
            return _create(path, _need(file_text, "file_text", command))
        if command == "str_replace":
            return _replace(path, _need(old_str, "old_str", command), new_str)
        if command == "insert":
            _need(insert_line, "insert_line", command)
            return _insert(path, insert_line, _need(new_str, "new_str", command))
        return _undo(path)
    except _Refused as e:
        return f"ERROR:\n{e}"
