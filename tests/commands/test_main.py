"""The command ``hierpretrain``: its list, its commands' names and what it says of a wrong one."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

import hierpretrain
from hierpretrain.__main__ import commands, main

ROOT = Path(__file__).parents[2]


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["hierpretrain", *words])
    main()


@pytest.fixture
def called(monkeypatch):
    """The command lines that commands have seen, in the place of their work."""
    seen = []
    for name in ("train", "make_split"):
        module = types.ModuleType(name)
        module.main = lambda name=name: seen.append((name, sys.argv))
        monkeypatch.setitem(sys.modules, f"hierpretrain.commands.{name}", module)
    return seen


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_without_a_command_all_are_listed(words, monkeypatch, capsys):
    run(monkeypatch, *words)
    out = capsys.readouterr().out
    for name in ("train", "test", "plot", "make-split", "embed", "index", "search", "report"):
        assert f"\n  {name:<10}  {commands()[name]}\n" in out
    assert "usage: hierpretrain COMMAND" in out


def test_every_command_has_a_module_a_tool_and_a_sentence():
    for name, about in commands().items():
        module = name.replace("-", "_")
        tool = (ROOT / f"tools/{module}.py").read_text()
        assert f'    run("{module}")\n' in tool
        assert about.endswith("."), name
        assert len(about) <= 120
        text = (ROOT / f"hierpretrain/commands/{module}.py").read_text()
        assert "Examples:" in text.split('"""')[1], name
        assert f"    hierpretrain {name} " in text.split('"""')[1], name


def test_the_rest_of_the_line_is_the_command_s(called, monkeypatch):
    run(monkeypatch, "train", "mine.py", "--amp")
    run(monkeypatch, "make-split", "mine.py")
    run(monkeypatch, "make_split")
    assert called == [
        ("train", ["hierpretrain train", "mine.py", "--amp"]),
        ("make_split", ["hierpretrain make-split", "mine.py"]),
        ("make_split", ["hierpretrain make-split"]),
    ]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trian", "error: hierpretrain has no command 'trian'; did you mean 'train'?"),
        ("make-splits", "did you mean 'make-split'?"),
        ("xyz", "error: hierpretrain has no command 'xyz'; there are "),
        ("../train", "no command '../train'"),
    ],
)
def test_a_wrong_word(word, message, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, word)
    assert message in capsys.readouterr().err


def test_version(monkeypatch, capsys):
    run(monkeypatch, "--version")
    assert capsys.readouterr().out == f"hierpretrain {hierpretrain.__version__}\n"


@pytest.mark.parametrize("name", commands())
def test_help_comes_without_torch(name):
    code = (
        f"import atexit, sys\nsys.argv = ['hierpretrain', '{name}', '--help']\n"
        "atexit.register(lambda: print('torch' in sys.modules))\nfrom hierpretrain.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_the_list_comes_without_torch():
    code = (
        "import sys\nsys.argv = ['hierpretrain']\nfrom hierpretrain.__main__ import main\nmain()\n"
        "print([name for name in ('torch', 'mmpretrain', 'faiss') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
