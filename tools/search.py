"""Finds the images of an index that are most like given ones: see ``hierpretrain/commands/search.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("search")
