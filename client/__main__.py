"""`python -m client`: one device of a federation, on plain host:port."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # What matters reaches us as errors, in one line each.

from client.device import Compute
from client.session import Session, SessionError
from proto.events import EventLog


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(prog="python -m client", description=__doc__)
    cli.add_argument("--server", required=True, metavar="HOST:PORT")
    cli.add_argument("--id", required=True, help="this device's name in the run, for example dev0")
    cli.add_argument("--events", type=Path, help="append events to this JSON Lines file")
    cli.add_argument("--seconds-per-step", type=float, help="hold updates as if a local step took this long")
    cli.add_argument("--slots", type=Path, help="folder of lock files that gate training to the cores")
    cli.add_argument("--reconnect", type=float, default=60, help="seconds to look for a lost server")
    cli.add_argument("--connect", type=float, default=10, help="seconds that one attempt to connect may take")
    cli.add_argument("--adapters", type=Path, metavar="DIR", help="keep an adapter of its own here")
    cli.add_argument(
        "--collected", type=Path, metavar="DIR", help="be the server's trainer, on what devices have sent"
    )
    cli.add_argument("--keepalive", type=float, default=60, help="seconds of silence until a ping")
    return cli


def main(argv: list[str] | None = None) -> int:
    """0 when the server said finish, 1 when the session failed, 2 on wrong input."""
    logging.basicConfig(level=logging.INFO, format="client: %(message)s", stream=sys.stderr)
    arguments = parser().parse_args(argv)
    session = Session(
        server=arguments.server,
        client_id=arguments.id,
        events=EventLog(arguments.events, arguments.id),
        compute=Compute(arguments.seconds_per_step, arguments.slots),
        reconnect_s=arguments.reconnect,
        connect_s=arguments.connect,
        keepalive_s=arguments.keepalive,
        adapters=arguments.adapters,
        collected=arguments.collected,
    )
    try:
        session.run()
    except SessionError as error:
        session.events.write("client_failed", reason=str(error))
        print(f"client: {error}", file=sys.stderr)
        return 1
    except ValueError as error:  # TaskError, DataError, BaseError, CodecError: one clear line each
        session.events.write("client_failed", reason=str(error))
        print(f"client: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
