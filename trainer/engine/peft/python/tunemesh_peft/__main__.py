"""Starts the engine: joins the other workers, connects to the stage, serves it."""

import os
import signal
import sys

# The stage alone decides when to stop: it lets a step end, saves, and closes.
# A signal that reaches the whole process group must not end the engine first.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> int:
    """Serves until the stage closes. Returns the exit code."""
    # Nothing may be fetched from a hub, and no tokenizer forks.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    from . import serve
    from .protocol import Link
    from .workers import Workers

    workers = Workers.join()
    try:
        link = Link.connect() if workers.is_first else None
        return serve.run(link, workers)
    finally:
        workers.leave()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A worker thread of a library must not keep a finished engine alive.
    os._exit(code)
