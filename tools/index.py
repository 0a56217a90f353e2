"""Embeds images and makes an index of them: see ``hierpretrain/commands/index.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("index")
