"""Trains a model as a config says: see ``hierpretrain/commands/train.py``."""

from hierpretrain.commands.train import main

if __name__ == "__main__":
    main()
