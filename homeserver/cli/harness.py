"""`harness`: a small federation on this machine, to try things out in; gone when it ends."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

import click


@click.command("harness")
@click.option("--servers", default=2, show_default=True, type=click.IntRange(1, 50), help="How many of our own.")
@click.option(
    "--synapse",
    metavar="PYTHON",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="And a Synapse: the Python of an environment with matrix-synapse in it.",
)
def command(servers: int, synapse: Path | None) -> None:
    """Bring up servers that find and trust each other, tell where they are, and run them until Ctrl-C."""
    from homeserver.harness.server import Server, ServerFailed
    from homeserver.harness.town import Town

    with tempfile.TemporaryDirectory(prefix="guildhall-harness-") as scratch, Town.built(Path(scratch)) as town:
        members: list[Server] = [town.ours() for _ in range(servers)]
        if synapse is not None:
            # Not resolved: the Python of a virtual environment is a link to one that knows nothing of it.
            members.append(town.synapse(synapse.absolute()))
        try:
            town.start()
        except ServerFailed as error:
            raise click.ClickException(str(error)) from None
        for server in members:
            someone = server.register("someone", "harness")
            click.echo(f"{server.name}  ({server.make})")
            click.echo(f"    for clients  {server.base}")
            click.echo(f"    account      {someone.user_id}, password harness")
            click.echo(f"    token        {someone.token}")
            click.echo(f"    log          {server.log_path}")
        click.echo(f"The lines between them take orders at {town.lines.base} (docs/harness.md). Ctrl-C ends it all.")
        wait_for_the_end()


def wait_for_the_end() -> None:
    """Until SIGINT or SIGTERM."""
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    signal.sigwait(ends)
