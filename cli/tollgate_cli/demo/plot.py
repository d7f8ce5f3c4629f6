"""The month as a picture: what stood in the wallets, and what was used."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from tollgate_cli.demo.story import DayPoint


def draw(days: Sequence[DayPoint], path: Path) -> None:
    """Draw prepaid balances and accepted usage by day into a PNG."""
    import matplotlib as mpl  # slow to import, and only the demo draws

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    dates = [point.end - timedelta(days=1) for point in days]  # the day that ended then
    used = [point.accepted - (days[i - 1].accepted if i else 0) for i, point in enumerate(days)]
    figure, (above, below) = plt.subplots(2, 1, figsize=(10, 7), sharex=True)
    above.plot(dates, [float(p.usd_available) for p in days], color="#1f5f8b", label="USD")
    above.set_ylabel("prepaid USD available")
    above.set_ylim(bottom=0)
    tokens = above.twinx()
    tokens.plot(
        dates, [float(p.tokens_available) / 1e6 for p in days], color="#c0762b", label="tokens"
    )
    tokens.set_ylabel("prepaid tokens available, million")
    tokens.set_ylim(bottom=0)
    lines = [*above.get_lines(), *tokens.get_lines()]
    above.legend(lines, [str(line.get_label()) for line in lines], loc="upper right")
    above.set_title("Balances and usage over the month")
    below.bar(dates, used, width=0.8, color="#4c9a6a")
    below.set_ylabel("accepted events a day")
    for axes in (above, below):
        axes.grid(axis="y", alpha=0.3)
    figure.autofmt_xdate()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
