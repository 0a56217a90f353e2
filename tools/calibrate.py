"""Has an index learn how sure its answers are: see ``hierpretrain/commands/calibrate.py``."""

from hierpretrain.commands.calibrate import main

if __name__ == "__main__":
    main()
