"""Keeps a model warm beside an index and answers over HTTP: see ``hierpretrain/commands/serve.py``."""

from hierpretrain.commands.serve import main

if __name__ == "__main__":
    main()
