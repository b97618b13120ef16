"""The command that serves a page of a live stream."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

import click

from myodistill.cli import stream_options
from myodistill.cli.flags import Command
from myodistill.errors import SettingsError

_path = click.Path(path_type=Path)


@click.command("live", cls=Command)
@click.argument("decoder", type=_path, metavar="BUNDLE|POPULATION")
@click.option(
    "--source", default="", metavar="NAME:ADDRESS", help="e.g. lsl:armband; else a replay"
)
@stream_options.adapt
@stream_options.state
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 100),
    default=1.0,
    show_default=True,
    help="of a replay, times as fast as recorded",
)
@stream_options.loop
@stream_options.rate_after
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="0 for any that is free",
)
@click.option("--record", type=_path, help="a person's folder, to record into")
@click.option("--subject", default="", help="the person's name")
@click.option("--population", type=_path, help="to calibrate by, beside a bundle")
@click.option("--out", type=_path, help="folder of the bundle that calibration makes")
@click.option("--open", "opened", is_flag=True, help="open the page in a browser")
def live(
    decoder: Path,
    source: str,
    adapt: bool,
    state: Path | None,
    speed: float,
    loop: bool,
    rate_after: float,
    host: str,
    port: int,
    record: Path | None,
    subject: str,
    population: Path | None,
    out: Path | None,
    opened: bool,
) -> None:
    """Show a live stream on a page, and what is decoded from it.

    BUNDLE is a bundle's folder or an exported decoder. A POPULATION calibrates whoever puts the
    band on, as the page guides them. The address of the page stands on stdout. Without --source a
    person who was recorded, or does not exist, is replayed.
    """
    from myodistill.live.logs import StreamLog
    from myodistill.live.models import StateFile
    from myodistill.live.server.access import is_loopback
    from myodistill.live.server.serving import PageServer, listen
    from myodistill.live.server.starting import load, source_of
    from myodistill.live.server.streaming import LiveStream
    from myodistill.live.server.watchers import Hub
    from myodistill.realtime.decoder import Decoder

    sys.setswitchinterval(_SWITCH)
    logger = StreamLog("text")
    with logger.closing():
        begun = load(decoder, population=population, record=record, subject=subject, out=out)
        made = None if begun.model is None else Decoder(begun.model, adapt=adapt)
        if state is not None and made is None:
            raise SettingsError("state: expected a decoder that learned it, got a population")
        kept = StateFile(state, made) if state is not None and made is not None else None
        given = source_of(begun, source, speed=speed, loop=loop)
        listener = listen(host, port)
        if not is_loopback(host):
            logger.tell(
                f"warning: everybody who can reach {host} and has the address can see and control "
                f"this page; nothing is encrypted"
            )
        hub = Hub()
        stream = LiveStream(
            begun.spec, begun.unit, made, name=begun.name, source=given.title, post=hub.post,
            person=begun.person, tell=logger.tell, enough=0.0 if given.replayed else rate_after,
            adapt=adapt, state=kept,
        )  # fmt: skip
        try:
            stream.start(given.open(stream.tasks.asked))
            stream.wait(_PATIENCE)
            server = PageServer(stream, hub, listener, host)

            def show() -> None:
                click.echo(server.address)
                if opened:
                    webbrowser.open(server.address)

            server.run(show)
        finally:
            listener.close()
            summary = stream.stop()
        logger.tell(summary)
        if stream.error:  # was told when it happened
            raise SystemExit(1 if stream.defect else 2)


_SWITCH = 0.001
"""Seconds of Python for the page before the decoder's thread gets its turn."""
_PATIENCE = 15.0
"""Seconds that a source has to say something before the page is shown."""
