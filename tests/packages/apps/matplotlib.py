"""Draw a figure into a PNG and a PDF in memory."""

import io

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

from kluis.enclave import Enclave

app = Enclave("matplotlib")


@app.ecall
def check() -> str:
    """Draw a figure into a PNG and a PDF in memory."""
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3], [1, 4, 9])
    axes.set_title("squares: $n^2$")
    png, pdf = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png")
    figure.savefig(pdf, format="pdf")
    return f"{png.getvalue()[1:4].decode()} {pdf.getvalue()[1:4].decode()} {len(png.getvalue()) > 10_000}"
