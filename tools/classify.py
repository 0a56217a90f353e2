"""Says where in the tree of an index images belong: see ``hierpretrain/commands/classify.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("classify")
