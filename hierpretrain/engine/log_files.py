"""Log files that another library has closed."""

from __future__ import annotations

import logging
import os

from mmengine.logging import MMLogger


def open_log_files_again() -> None:
    """Opens MMEngine's log files again, where they are closed; to be called when another library has been set up.

    Libraries that configure Python's logging, as MLflow and pymilvus do when they are imported and MLflow does again
    when it makes a database, close all log files. Python opens only those again that are appended to; MMEngine's were
    begun anew, and would have no further line. A log whose folder is gone stays away, as if it had never been closed.
    """
    handlers = [handler for logger in MMLogger._instance_dict.values() for handler in logger.handlers]
    for handler in handlers:
        if isinstance(handler, logging.FileHandler) and (handler.stream is None or handler.stream.closed):
            try:
                handler.stream = open(handler.baseFilename, "a", encoding=handler.encoding)
            except FileNotFoundError:
                handler.stream = open(os.devnull, "a", encoding=handler.encoding)
