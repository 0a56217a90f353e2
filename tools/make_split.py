"""Makes a split file of seen and unseen classes: see ``hierpretrain/commands/make_split.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("make_split")
