import pytest

from hierpretrain.datasets import messages


@pytest.fixture
def logged(monkeypatch):
    """Returns the list of the messages that data sets and their readers log from now on."""
    lines = []
    monkeypatch.setattr(messages, "print_log", lambda text, **options: lines.append(text))
    return lines
