"""The collector's settings: for a process of its own, since they hold until its end."""

import subprocess
import sys

_SETTLED = """
import gc
from actors import collector
kept = [[] for _ in range(1000)]
collector.settle()
assert gc.get_freeze_count() > 1000
assert gc.get_threshold() == collector.THRESHOLDS
class Node: pass
import weakref
ends = []
for _ in range(collector.THRESHOLDS[0]):
    node = Node()
    node.itself = node
    ends.append(weakref.ref(node))
assert any(end() is None for end in ends), "cycles that requests leave are collected still"
"""


def test_what_lives_as_long_as_the_process_is_left_alone_and_young_cycles_are_not() -> None:
    subprocess.run([sys.executable, "-c", _SETTLED], check=True)
