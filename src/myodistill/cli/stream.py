"""The command that decodes a live stream."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from myodistill.cli import stream_options
from myodistill.cli.flags import Command


@click.command("stream", cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--source", required=True, metavar="NAME:ADDRESS", help="e.g. tcp-listen:7000")
@click.option(
    "--to",
    multiple=True,
    default=["json"],
    show_default=True,
    help="json, udp:HOST:PORT, osc:HOST:PORT, lsl:NAME or keys:FILE.yaml; may be repeated",
)
@stream_options.adapt
@stream_options.state
@click.option(
    "--speed",
    type=click.FloatRange(0, 1000),
    default=1.0,
    show_default=True,
    help="of a replay, times as fast as recorded; 0 for as fast as possible",
)
@stream_options.loop
@stream_options.rate_after
@click.option(
    "--give-up", type=click.FloatRange(0.1), help="seconds of silence that end the stream"
)
@click.option("--metrics", metavar="HOST:PORT", help="serve /metrics (Prometheus) and /health")
@click.option(
    "--log",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="what happens, as lines for people or one JSON object a line",
)
def stream(
    bundle: Path,
    source: str,
    to: tuple[str, ...],
    adapt: bool,
    state: Path | None,
    speed: float,
    loop: bool,
    rate_after: float,
    give_up: float | None,
    metrics: str | None,
    log: str,
) -> None:
    """Decode a live stream with a bundle's folder or an exported .onnx file.

    What happens to the stream is said on stderr; its last line is a summary.
    """
    from myodistill import live
    from myodistill.live.logs import StreamLog
    from myodistill.live.metrics import serving
    from myodistill.live.models import StateFile
    from myodistill.live.running import is_replay, opened, run_stream
    from myodistill.live.session import Session
    from myodistill.live.sinks import open_sinks
    from myodistill.realtime.decoder import Decoder
    from myodistill.realtime.models import load_model

    logger = StreamLog(log)
    with logger.closing(), ExitStack() as stack:
        live.register_sources()
        model = load_model(bundle)
        decoder = Decoder(model, adapt=adapt)
        kept = StateFile(state, decoder) if state is not None else None
        chunks = opened(source, model.spec, speed=speed, loop=loop)
        session = Session(
            decoder, tell=logger.tell, log=logger.log, enough=rate_after, give_up=give_up
        )
        sink = open_sinks(to, model.spec.gestures, wait=is_replay(source) and speed == 0)
        if metrics is not None:
            stack.enter_context(serving(metrics, session, sink))
        logger.summary(run_stream(session, chunks, sink, kept), session)
