import itertools
import logging
import re
import sys
from types import SimpleNamespace

from mmengine.logging import MessageHub, MMLogger

from hierpretrain.engine import ShortLogProcessor, shorten_terminal
from hierpretrain.engine.log_lines import TerminalFormatter
from hierpretrain.registry import LOG_PROCESSORS


def test_metrics_of_a_level_share_a_line():
    scalars = dict(val__kind__nmi=[0.3], val__violations=[0.2], val__crop__nmi=[0.2], val__kind__ami=[0.125])
    _, line = ShortLogProcessor().get_log_after_epoch(runner(**scalars, val__time=[0.1]), 20, "val")
    assert line == (
        "Epoch(val) [0][20/20]    violations: 0.200  time: 0.100\n    kind: nmi 0.300, ami 0.125\n    crop: nmi 0.200"
    )


NUMBERS = itertools.count()


def runner(**scalars):
    hub = MessageHub.get_instance(f"test_log_lines_{next(NUMBERS)}")
    for name, values in scalars.items():
        for value in values:
            hub.update_scalar(name.replace("__", "/"), value)
    loop = SimpleNamespace(dataloader=[None] * 20)
    loops = dict(train_loop=loop, val_loop=loop, test_loop=loop, _train_loop=loop)
    return SimpleNamespace(message_hub=hub, iter=9, epoch=0, max_epochs=5, max_iters=100, model=None, **loops)


def test_a_line_of_training_has_means_of_losses_and_the_last_of_all_else():
    scalars = dict(train__lr=[0.5], train__loss__kind=[2.0, 4.0], train__loss=[1.0, 3.0])  # as they are logged
    run = runner(**scalars, train__batch_violations=[0.5, 0.25], val__loss=[9.0])
    tag, line = LOG_PROCESSORS.build(dict(type="ShortLogProcessor")).get_log_after_iter(run, 9, "train")
    assert line == "Epoch(train) [1][10/20]  lr: 5.000e-01  loss: 2.000  loss/kind: 3.000  batch_violations: 0.250"
    assert tag == {"lr": 0.5, "loss": 2.0, "loss/kind": 3.0, "batch_violations": 0.25, "epoch": 1, "iter": 10}
    assert ShortLogProcessor(window_size=1).get_log_after_iter(run, 9, "train")[0]["loss/kind"] == 4.0


def test_the_times_of_a_validation_are_no_scalars_of_it():
    run = runner(val__kind__nmi=[0.25, 0.5], val__time=[1.0, 3.0], val__data_time=[0.5])
    tag, line = ShortLogProcessor().get_log_after_epoch(run, 20, "val")
    assert tag == {"kind/nmi": 0.5}  # the last, no mean over validations
    assert line == "Epoch(val) [0][20/20]    time: 2.000  data_time: 0.500\n    kind: nmi 0.500"
    processor, lossy = ShortLogProcessor(), runner(val__lossy__nmi=[0.25, 0.5], val__time=[1.0])
    processor.get_log_after_iter(runner(train__loss=[1.0]), 9, "train")  # which takes means of losses
    assert processor.get_log_after_epoch(lossy, 20, "val")[0] == {"lossy/nmi": 0.5}  # a level may be called so
    assert ShortLogProcessor().get_log_after_epoch(runner(test__time=[2.0]), 20, "test")[0] == {"time": 2.0}


# ------------------------------------------------------------------ the terminal
def record(message, level=logging.INFO):
    return logging.makeLogRecord(dict(msg=message, levelno=level, levelname=logging.getLevelName(level)))


def test_of_long_messages_the_terminal_has_the_first_line():
    show = TerminalFormatter(max_lines=3).format
    assert re.fullmatch(r"\d\d:\d\d:\d\d  one", show(record("one")))
    assert show(record("one\ntwo\nthree"))[8:] == "  one\ntwo\nthree"
    assert show(record("\n-----\none\ntwo\nthree\nfour"))[8:] == "  one ... (3 more lines in the log file)"
    assert show(record("a\nb\nc\nd", logging.WARNING))[8:] == "  WARNING: a\nb\nc\nd"
    assert show(record(""))[8:] == "  "
    try:
        raise KeyError("why")
    except KeyError:
        failed = logging.makeLogRecord(dict(msg="failed", levelno=40, levelname="ERROR", exc_info=sys.exc_info()))
    assert re.search(r"ERROR: failed\nTraceback(.|\n)*KeyError: 'why'", show(failed))


def test_the_log_file_keeps_all(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    logger = MMLogger(f"test_{tmp_path.name}", log_file=str(tmp_path / "log.txt"))
    shorten_terminal(logger)
    terminal, file = logger.handlers
    assert isinstance(terminal.formatter, TerminalFormatter)
    long = "Config:\n" + "\n".join(f"line {i}" for i in range(30))
    assert terminal.format(record(long)).endswith("Config: ... (30 more lines in the log file)")
    file.handle(record(long))
    assert long in (tmp_path / "log.txt").read_text()
