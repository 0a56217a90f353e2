"""Writes a config for a folder or a list of images: see ``hierpretrain/commands/init.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("init")
