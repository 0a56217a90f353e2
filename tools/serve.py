"""Keeps a model warm beside an index and answers over HTTP: see ``hierpretrain/commands/serve.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("serve")
