"""A window of 100 lines on one open file."""

import os

WINDOW = 100


class _View:
    path = None
    line = 1


view = _View()


def error(text):
    print(f"ERROR: {text}")


def read_lines(path):
    with open(path, encoding="utf-8", errors="replace", newline=None) as f:
        return f.read().split("\n")


def _lines():
    lines = read_lines(view.path)
    # A newline at the end of a file ends its last line, and does not begin another.
    return lines[:-1] if len(lines) > 1 and lines[-1] == "" else lines


def _bounds(line, total, window):
    half = max(1, window // 2)
    first, last = max(1, line - half), min(total, line + half)
    if first == 1:
        last = max(last, min(window, total))
    if last == total:
        first = min(first, max(1, total - window + 1))
    return first, last


def _show(window=WINDOW):
    """Prints the lines around the current one and returns whether there are more below."""
    lines = _lines()
    total = len(lines)
    first, last = _bounds(view.line, total, window)
    print(f"[File: {view.path} ({total} lines total)]")
    print(f"({first - 1} more lines above)" if first > 1 else "(this is the beginning of the file)")
    for number in range(first, last + 1):
        print(f"{number}|{lines[number - 1]}")
    print(f"({total - last} more lines below)" if last < total else "(this is the end of the file)")
    return last < total


def _bad_line(line, total):
    if isinstance(line, int) and 1 <= line <= total:
        return False
    error(f"Line number must be between 1 and {total}")
    return True


def _need_file():
    if view.path is None:
        error("No file open. Use the open_file function first.")
        return False
    if not os.path.isfile(view.path):
        error(f"File {view.path} not found.")
        return False
    return True


def open_file(path: str, line_number: int | None = 1, context_lines: int | None = WINDOW) -> None:
    """Opens the file at the given path and shows the lines around line_number, at most 100.

    Args:
        path: the path of the file; an absolute one is best.
        line_number: the line to move to, from 1.
        context_lines: how many lines to show.
    """
    if not os.path.isfile(path):
        error(f"File {path} not found.")
        return
    before = view.path
    view.path = os.path.abspath(path)
    line = 1 if line_number is None else line_number
    if _bad_line(line, len(_lines())):
        view.path = before
        return
    view.line = line
    if context_lines is None or context_lines < 1:
        context_lines = WINDOW
    if _show(min(context_lines, WINDOW)):
        print(f"[Use `scroll_down` to view the next {WINDOW} lines of the file!]")


def goto_line(line_number: int) -> None:
    """Moves the window of the open file to a line.

    Args:
        line_number: the line to move to, from 1.
    """
    if not _need_file() or _bad_line(line_number, len(_lines())):
        return
    view.line = line_number
    _show()


def _move(by):
    if not _need_file():
        return
    view.line = min(max(view.line + by, 1), len(_lines()))
    _show()


def scroll_down() -> None:
    """Moves the window of the open file down by 100 lines."""
    _move(WINDOW)


def scroll_up() -> None:
    """Moves the window of the open file up by 100 lines."""
    _move(-WINDOW)
