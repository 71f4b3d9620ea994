"""`visionseq claims`: a room's headline claim at the size of this machine."""

from pathlib import Path

from visionseq.cli.outputs import claim_files
from visionseq.cli.terminal import say


def claims(
    room: str,
    data: str | None = None,
    out: Path = Path("docs/claims"),
    work: Path = Path("runs/claims"),
    *,
    seeds: list[int] | None = None,
    overwrite: bool = False,
) -> None:
    """Run the paper's claim, compare the rows of its ablation, and write verdicts, plots, JSON and a page.

    An interrupted run goes on where it stopped, where the claim keeps its models.

    Args:
        room: Whose claim to run: a room or a shared part such as mixers; a wrong name lists them. A claim takes from
            some minutes to half an hour on two cores.
        data: Data set of the experiment; default: the claim's own.
        out: Folder of the report: ROOM.json, ROOM.md and plots, with _DATA in their names for another data set.
        work: Folder of models and pairs, kept between calls.
        seeds: Seeds to run; default: those of the experiment.
        overwrite: Replace the report of an earlier call.

    Examples:
        visionseq claims rectified_flow
        visionseq claims rectified_flow --data fashion_mnist --out docs/claims
        visionseq claims mixers
        visionseq claims lion
    """
    from visionseq import rooms
    from visionseq.errors import ConfigError

    chosen = rooms.claim(room)
    data = data or chosen.DATA[0]
    if data not in chosen.DATA:
        raise ConfigError(f"data: {data!r}, the claim {room} expects {' or '.join(chosen.DATA)}")
    report = room if data == chosen.DATA[0] else f"{room}_{data}"
    claim_files(out / f"{report}.json", out / f"{report}.md", overwrite=overwrite)
    outcome = chosen.run(data, out, work, seeds, say)
    _show(outcome.table)
    for text, holds in outcome.verdicts.items():
        say(f"{'holds' if holds else 'does not hold'}: {text}")
    say(outcome.page)


def _show(rows: list[tuple[str, ...]]) -> None:
    for row in rows:
        say("  ".join(f"{cell:>20}" for cell in row))
