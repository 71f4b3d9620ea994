"""`visionseq claims`: a room's headline claim at the size of this machine."""

from pathlib import Path


def claims(
    room: str,
    data: str | None = None,
    out: Path = Path("docs/claims"),
    work: Path = Path("runs/claims"),
    seeds: list[int] | None = None,
) -> None:
    """Run the paper's claim, compare the rows of its ablation, and write verdicts, plots, JSON and a page.

    An interrupted run goes on where it stopped, where the claim keeps its models.

    Args:
        room: Whose claim to run: a room or a shared part such as mixers; a wrong name lists them. A claim takes from
            some minutes to half an hour on two cores.
        data: Data set of the experiment; default: the claim's own.
        out: Folder of the JSON, the page and the plots.
        work: Folder of models and pairs, kept between calls.
        seeds: Seeds to run; default: those of the experiment.

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
    outcome = chosen.run(data, out, work, seeds, print)
    _show(outcome.table)
    for text, holds in outcome.verdicts.items():
        print(f"{'holds' if holds else 'does not hold'}: {text}")
    print(outcome.page)


def _show(rows: list[tuple[str, ...]]) -> None:
    for row in rows:
        print("  ".join(f"{cell:>20}" for cell in row))
