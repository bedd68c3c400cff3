"""Error against time, one panel a problem."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's colours: told apart by readers with any colour vision; markers tell solvers apart in print.
STYLES = {"diffincl ForwardEuler": ("#E69F00", "s"), "diffincl ProxHeun": ("#0072B2", "o"),
          "diffincl SwitchingDP5": ("#D55E00", "D"), "diffincl ARS222": ("#CC79A7", "P"),
          "scipy RK45": ("#009E73", "^"), "scipy LSODA": ("#009E73", "v"), "torchdiffeq dopri5": ("#56B4E9", "<"),
          "solve-nivp": ("#000000", "x"), "solve-nivp TR-BE": ("#000000", "+"), "nosnoc": ("#777777", "*")}


def draw(panels: dict[str, list[dict[str, Any]]], path: str) -> None:
    """Write the figure; rows without a result are left out. diffincl is drawn with full lines, its peers dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 4.6), layout="constrained", squeeze=False,
                                sharex=True, sharey=True)  # one range, so that panels compare and have whole decades
    handles: dict[str, Any] = {}
    for axis, (title, rows) in zip(axes[0], panels.items(), strict=True):
        for name, points in series(rows).items():
            colour, marker = STYLES[name.removesuffix(" adaptive")]
            line = "-" if name.startswith("diffincl") else "--"
            (handles[name],) = axis.loglog(*zip(*points, strict=True), line, color=colour, marker=marker, linewidth=1.3,
                                           markersize=6, fillstyle="none" if name.endswith("adaptive") else "full")
        axis.set(title=title, xlabel="time of one solve (s)")
        axis.grid(True, which="major", linewidth=0.4, alpha=0.5)
    axes[0][0].set_ylabel("error at the final time (largest entry)")
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def series(rows: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Points (seconds, error) by solver; adaptive and fixed steps of one scheme are two lines."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["seconds"] is not None:
            adaptive = row["solver"] == "diffincl ProxHeun" and row["setting"].startswith("tol")
            name = row["solver"] + (" adaptive" if adaptive else " TR-BE" if row["setting"].startswith("TR-BE") else "")
            found.setdefault(name, []).append((row["seconds"], max(row["final error"], 1e-16)))
    return found
