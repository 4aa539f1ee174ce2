"""Run by TestPython in the environment that kernels have."""

import contextlib
import io
import os
import tempfile
import unittest
from unittest import mock

from openhands.runtime.plugins.agent_skills.agentskills import *  # noqa: F403
from openhands.runtime.plugins.agent_skills.agentskills import DOCUMENTATION, __all__
from openhands_rt_skills import window


def said(function, *args, **kwargs):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        function(*args, **kwargs)
    return out.getvalue()


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        self.folder = os.path.realpath(folder.name)
        os.chdir(self.folder)
        window.view.path, window.view.line = None, 1

    def write(self, name, text, mode="w"):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, mode) as f:
            f.write(text)
        return path


class Window(Case):
    def test_small_file(self):
        path = self.write("a.py", "one\ntwo\n")
        self.assertEqual(
            said(open_file, "a.py"),
            f"[File: {path} (2 lines total)]\n(this is the beginning of the file)\n1|one\n2|two\n(this is the end of the file)\n",
        )

    def test_empty_file(self):
        path = self.write("a", "")
        self.assertEqual(
            said(open_file, path),
            f"[File: {path} (1 lines total)]\n(this is the beginning of the file)\n1|\n(this is the end of the file)\n",
        )

    def test_scrolling(self):
        path = self.write("a", "".join(f"line {n}\n" for n in range(1, 301)))
        lines = said(open_file, path).splitlines()
        self.assertEqual(lines[:3], [f"[File: {path} (300 lines total)]", "(this is the beginning of the file)", "1|line 1"])
        self.assertEqual(lines[-3:], ["100|line 100", "(200 more lines below)", "[Use `scroll_down` to view the next 100 lines of the file!]"])
        lines = said(scroll_down).splitlines()
        self.assertEqual(lines[1:3] + lines[-2:], ["(50 more lines above)", "51|line 51", "151|line 151", "(149 more lines below)"])
        lines = said(goto_line, 299).splitlines()
        self.assertEqual(lines[1:3] + lines[-2:], ["(200 more lines above)", "201|line 201", "300|line 300", "(this is the end of the file)"])
        said(scroll_down)
        self.assertEqual(window.view.line, 300)
        for _ in range(5):
            said(scroll_up)
        self.assertEqual(window.view.line, 1)
        lines = said(open_file, path, 150, 10).splitlines()
        self.assertEqual((lines[2], lines[-3]), ("145|line 145", "155|line 155"))

    def test_errors(self):
        self.assertEqual(said(open_file, "gone"), "ERROR: File gone not found.\n")
        self.assertEqual(said(goto_line, 1), "ERROR: No file open. Use the open_file function first.\n")
        self.assertEqual(said(scroll_up), "ERROR: No file open. Use the open_file function first.\n")
        path = self.write("a", "x\n")
        for line in (0, 2, -1, "1"):
            self.assertEqual(said(open_file, path, line), "ERROR: Line number must be between 1 and 1\n")
        self.assertIsNone(window.view.path)
        said(open_file, path)
        self.assertEqual(said(goto_line, 2), "ERROR: Line number must be between 1 and 1\n")
        os.remove(path)
        self.assertEqual(said(scroll_down), f"ERROR: File {path} not found.\n")


class Search(Case):
    def setUp(self):
        super().setUp()
        self.write("a.txt", "needle\nhay\n  needle too\n")
        self.write("sub/b.txt", "a needle\n")
        self.write(".hidden", "needle\n")

    def test_search_dir(self):
        self.assertEqual(
            said(search_dir, "needle"),
            '[Found 3 matches for "needle" in ./]\n./a.txt (Line 1): needle\n./a.txt (Line 3): needle too\n'
            './sub/b.txt (Line 1): a needle\n[End of matches for "needle" in ./]\n',
        )
        self.assertEqual(said(search_dir, "pin", "sub"), 'No matches found for "pin" in sub\n')
        self.assertEqual(said(search_dir, "x", "gone"), "ERROR: Directory gone not found.\n")
        for n in range(101):
            self.write(f"many/{n}", "needle")
        self.assertEqual(said(search_dir, "needle", "many"), 'More than 101 files matched for "needle" in many. Please narrow your search.\n')

    def test_search_file(self):
        want = '[Found 2 matches for "needle" in a.txt]\nLine 1: needle\nLine 3: needle too\n[End of matches for "needle" in a.txt]\n'
        self.assertEqual(said(search_file, "needle", "a.txt"), want)
        self.assertEqual(said(search_file, "x"), "ERROR: No file specified or open. Use the open_file function first.\n")
        said(open_file, "a.txt")
        path = os.path.join(self.folder, "a.txt")
        self.assertEqual(said(search_file, "needle"), want.replace("a.txt", path))
        self.assertEqual(said(search_file, "pin", "a.txt"), '[No matches found for "pin" in a.txt]\n')
        self.assertEqual(said(search_file, "x", "gone"), "ERROR: File gone not found.\n")

    def test_find_file(self):
        self.assertEqual(said(find_file, "b.t"), '[Found 1 matches for "b.t" in ./]\n./sub/b.txt\n[End of matches for "b.t" in ./]\n')
        self.assertEqual(said(find_file, "zzz"), '[No matches found for "zzz" in ./]\n')
        self.assertEqual(said(find_file, "x", "gone"), "ERROR: Directory gone not found.\n")


class Documents(Case):
    def test_docx(self):
        import docx

        document = docx.Document()
        document.add_paragraph("first")
        document.add_paragraph("second")
        document.save("a.docx")
        self.assertEqual(said(parse_docx, "a.docx"), "[Reading DOCX file from a.docx]\n@@ Page 1 @@\nfirst\n\n@@ Page 2 @@\nsecond\n\n")

    def test_pptx(self):
        import pptx

        deck = pptx.Presentation()
        deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = "title"
        deck.save("a.pptx")
        self.assertEqual(said(parse_pptx, "a.pptx"), "[Reading PowerPoint file from a.pptx]\n@@ Slide 1 @@\ntitle\n\n")

    def test_pdf(self):
        import matplotlib

        matplotlib.use("pdf")
        matplotlib.rcParams["pdf.fonttype"] = 42
        from matplotlib.figure import Figure

        figure = Figure()
        figure.text(0.5, 0.5, "words")
        figure.savefig("a.pdf")
        text = said(parse_pdf, "a.pdf")
        self.assertTrue(text.startswith("[Reading PDF file from a.pdf]\n@@ Page 1 @@\n"), text)
        self.assertIn("words", text)

    def test_errors(self):
        self.assertEqual(said(parse_pdf, "gone"), "ERROR: File gone not found.\n")
        self.write("broken.pdf", "no pdf")
        with self.assertLogs("pypdf", "WARNING"):
            self.assertIn("ERROR: The file cannot be read: ", said(parse_pdf, "broken.pdf"))
        self.write("a.tex", "x")
        with mock.patch.dict("sys.modules", {"pylatexenc": None, "pylatexenc.latex2text": None}):
            self.assertEqual(
                said(parse_latex, "a.tex"),
                "ERROR: Reading such files needs the package pylatexenc. Install it with: %pip install pylatexenc\n",
            )


class Repository(Case):
    def setUp(self):
        super().setUp()
        self.write("pkg/mod.py", "import os\n\n\nclass A:\n    @property\n    def f(self):\n        return 1\n\n\ndef g():\n    return 'needle'\n")
        self.write("pkg/broken.py", "def (\n")

    def test_contents(self):
        self.assertEqual(
            get_entity_contents(["pkg/mod.py:A.f", "pkg/mod.py:g", "pkg/mod.py:none"]),
            "[File: pkg/mod.py, lines 5 to 7]\n5|    @property\n6|    def f(self):\n7|        return 1\n\n"
            "[File: pkg/mod.py, lines 10 to 11]\n10|def g():\n11|    return 'needle'\n\nERROR: pkg/mod.py:none not found.\n",
        )
        self.assertTrue(get_entity_contents(["pkg/mod.py"]).startswith("[File: pkg/mod.py, lines 1 to 11]\n1|import os\n"))
        self.assertIn("ERROR: pkg/broken.py:x cannot be read: ", get_entity_contents(["pkg/broken.py:x"]))
        self.assertIn("ERROR: gone.py cannot be read: ", get_entity_contents(["gone.py"]))

    def test_snippets(self):
        want = "[File: pkg/mod.py, lines 6 to 11]\n"
        self.assertTrue(search_code_snippets(["needle"]).startswith(want))
        self.assertTrue(search_code_snippets(line_nums=[11], file_path_or_pattern="pkg/mod.py").startswith(want))
        self.assertEqual(search_code_snippets(["pin"], file_path_or_pattern="*.py"), "No matches found in *.py.")
        self.assertEqual(search_code_snippets(), "ERROR: search_terms or line_nums is needed.")

    def test_tree(self):
        self.assertEqual(
            explore_tree_structure(traversal_depth=4),
            ".\n  pkg/\n    broken.py\n      (cannot be read)\n    mod.py\n      class A\n        function f\n      function g",
        )
        self.assertEqual(explore_tree_structure(["gone"]), "ERROR: gone not found.")
        self.assertEqual(explore_tree_structure(direction="upstream"), 'ERROR: direction "upstream" is not available.')


class Editor(Case):
    def test_a_day_of_work(self):
        path = os.path.join(self.folder, "a.txt")
        self.assertEqual(file_editor("create", path, file_text="Line 1\nLine 2\nLine 3"), f"File created successfully at: {path}")
        self.assertEqual(
            file_editor("view", path), f"Here's the result of running `cat -n` on {path}:\n     1\tLine 1\n     2\tLine 2\n     3\tLine 3\n"
        )
        self.assertEqual(
            file_editor("str_replace", path, old_str="Line 2", new_str="New Line 2"),
            f"The file {path} has been edited. Here's the result of running `cat -n` on a snippet of {path}:\n"
            "     1\tLine 1\n     2\tNew Line 2\n     3\tLine 3\n"
            "Review the changes and make sure they are as expected. Edit the file again if necessary.",
        )
        self.assertEqual(
            file_editor("undo_edit", path),
            f"Last edit to {path} undone successfully. Here's the result of running `cat -n` on {path}:\n"
            "     1\tLine 1\n     2\tLine 2\n     3\tLine 3\n",
        )
        self.assertIn("     2\tx\n", file_editor("insert", path, insert_line=1, new_str="x"))
        with open(path) as f:
            self.assertEqual(f.read(), "Line 1\nx\nLine 2\nLine 3")

    def test_insert_at_the_end(self):
        path = self.write("a", "1\n2\n")
        file_editor("insert", path, insert_line="2", new_str="3\n4")
        with open(path) as f:
            self.assertEqual(f.read(), "1\n2\n3\n4\n")
        file_editor("insert", path, insert_line=0, new_str="0")
        with open(path) as f:
            self.assertEqual(f.read(), "0\n1\n2\n3\n4\n")

    def test_view_range(self):
        path = self.write("a", "1\n2\n3\n")
        self.assertEqual(file_editor("view", path, view_range=[2, 3]), f"Here's the result of running `cat -n` on {path}:\n     2\t2\n     3\t3\n")
        self.assertTrue(
            file_editor("view", path, view_range=[3, 9]).startswith("NOTE: We only show up to 3 since there're only 3 lines in this file.\n")
        )
        for wrong, hint in (
            ([0, 1], "Its first element `0` should be within the range of lines of the file: [1, 3]."),
            ([3, 2], "Its second element `2` should be greater than or equal to the first element `3`."),
            ([1], "It should be a list of two integers."),
        ):
            self.assertEqual(file_editor("view", path, view_range=wrong), f"ERROR:\nInvalid `view_range` parameter: {wrong}. {hint}")

    def test_folder(self):
        self.write("sub/b/deep", "")
        self.write(".hidden", "")
        self.assertEqual(
            file_editor("view", self.folder),
            f"Here's the files and directories up to 2 levels deep in {self.folder}, excluding hidden items:\n"
            f"{self.folder}/\n{self.folder}/sub/\n{self.folder}/sub/b/\n\n"
            f"1 hidden files/directories in this directory are excluded. You can use 'ls -la {self.folder}' to see them.",
        )

    def test_errors(self):
        path = self.write("a", "x\nx\n")
        gone = os.path.join(self.folder, "gone")
        self.write("bin", b"\x00\xff", "wb")
        for want, args in (
            ("Parameter `file_text` is required for command: create.", {"command": "create", "path": gone}),
            ("Parameter `old_str` is required for command: str_replace.", {"command": "str_replace", "path": path}),
            ("Parameter `insert_line` is required for command: insert.", {"command": "insert", "path": path}),
            (f"Invalid `path` parameter: {gone}. The path {gone} does not exist. Please provide a valid path.", {"command": "view", "path": gone}),
            (
                f"Invalid `path` parameter: a. The path should be an absolute path, starting with `/`. Maybe you meant {path}?",
                {"command": "view", "path": "a"},
            ),
            (
                f"Invalid `path` parameter: {path}. File already exists at: {path}. Cannot overwrite files using command `create`.",
                {"command": "create", "path": path, "file_text": ""},
            ),
            (
                "No replacement was performed. Multiple occurrences of old_str `x` in lines [1, 2]. Please ensure it is unique.",
                {"command": "str_replace", "path": path, "old_str": "x", "new_str": "y"},
            ),
            (
                f"No replacement was performed, old_str `z` did not appear verbatim in {path}.",
                {"command": "str_replace", "path": path, "old_str": " z "},
            ),
            (
                "Invalid `new_str` parameter: x. No replacement was performed. `new_str` and `old_str` must be different.",
                {"command": "str_replace", "path": path, "old_str": "x", "new_str": "x"},
            ),
            (
                "Invalid `insert_line` parameter: 3. It should be within the range of allowed values: [0, 2]",
                {"command": "insert", "path": path, "insert_line": 3, "new_str": ""},
            ),
            (f"No edit history found for {path}.", {"command": "undo_edit", "path": path}),
            (
                "Unrecognized command move. The allowed commands for the oh_editor tool are: view, create, str_replace, insert, undo_edit",
                {"command": "move", "path": path},
            ),
            (
                f"File validation failed for {self.folder}/bin: File appears to be binary and this file type cannot be read or edited by this tool.",
                {"command": "view", "path": self.folder + "/bin"},
            ),
        ):
            self.assertEqual(file_editor(**args), "ERROR:\n" + want)
        with mock.patch("openhands_rt_skills.editor._MOST_BYTES", 1):
            self.assertIn("File is too large (0.0MB). Maximum allowed size is 10MB.", file_editor("view", path))


class Names(unittest.TestCase):
    def test_all_are_there_and_documented(self):
        for name in __all__:
            self.assertTrue(callable(globals()[name]))
            self.assertIn(f"{name}(", DOCUMENTATION)


if __name__ == "__main__":
    unittest.main()
