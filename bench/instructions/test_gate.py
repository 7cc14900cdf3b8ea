"""What the gate's judgement must catch and what it must let pass, and how callgrind's output is read; no valgrind needed."""
import contextlib, io, os, tempfile, tomllib, unittest
from unittest import mock

import functions
import gate

TOOLS = {"rustc": "rustc 1", "valgrind": "valgrind-1", "libc": "glibc 1", "machine": "x86_64"}


def judged(was, now, tools=None):
    out = io.StringIO()
    with mock.patch.object(gate, "tools", lambda: tools or TOOLS), contextlib.redirect_stdout(out):
        return gate.judge({"tools": TOOLS, "counts": was}, now), out.getvalue()


class Judgement(unittest.TestCase):
    def test_more_than_three_percent_above_fails(self):
        self.assertEqual(judged({"a": 1000}, {"a": 1030})[0], 0)
        status, text = judged({"a": 1000, "b": 1000}, {"a": 1031, "b": 900})
        self.assertEqual(status, 1)
        self.assertRegex(text, r"a +1,000 +1,031 +\+3\.1 %  SLOWER")

    def test_much_less_passes_and_asks_for_a_lower_baseline(self):
        status, text = judged({"a": 1000}, {"a": 949})
        self.assertEqual(status, 0)
        self.assertIn("instructions: a has become faster: lower the baseline", text)
        self.assertNotIn("lower", judged({"a": 1000}, {"a": 951})[1])

    def test_a_piece_that_only_one_side_knows_fails(self):
        self.assertEqual(judged({"a": 1}, {"a": 1, "b": 1})[0], 1)
        self.assertEqual(judged({"a": 1, "b": 1}, {"a": 1})[0], 1)

    def test_with_another_compiler_it_shows_and_does_not_judge(self):
        status, text = judged({"a": 1000}, {"a": 2000}, {**TOOLS, "rustc": "rustc 2"})
        self.assertEqual(status, 0)
        self.assertIn("instructions: NOT JUDGED: the baseline was counted with another rustc rustc 1, here rustc 2", text)
        self.assertIn("SLOWER", text)

    def test_a_written_baseline_reads_as_what_was_counted(self):
        with tempfile.TemporaryDirectory() as directory, mock.patch.object(gate, "tools", lambda: TOOLS):
            path = os.path.join(directory, "baseline.toml")
            gate.write_baseline(path, {"a/b": 1234.4})
            with open(path, "rb") as f:
                self.assertEqual(tomllib.load(f), {"tools": TOOLS, "counts": {"a/b": 1234}})


CALLGRIND = """fl=(1) a.rs
fn=(1) outer
12 100
+1 20
cfn=(2) inner
calls=2 0
+3 50
fi=(2) inlined.rs
-1 5
fn=(2)
7 50
totals: 175
"""


class Functions(unittest.TestCase):
    def test_a_call_costs_the_caller_but_not_by_itself(self):
        self.assertEqual(functions.by_function(CALLGRIND), {"outer": (175, 125), "inner": (50, 50)})

    def test_starting_up_cancels(self):
        few, many = {"a": (10, 5)}, {"a": (110, 25), "b": (50, 50)}
        self.assertEqual(functions.difference(few, many, 10), {"a": (10, 2), "b": (5, 5)})


if __name__ == "__main__":
    unittest.main()
