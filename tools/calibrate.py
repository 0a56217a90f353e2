"""Has an index learn how sure its answers are: see ``hierpretrain/commands/calibrate.py``."""

from hierpretrain.__main__ import run

if __name__ == "__main__":
    run("calibrate")
