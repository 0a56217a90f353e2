"""Trains a model as a config says: see ``hierpretrain/commands/train.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("train")
