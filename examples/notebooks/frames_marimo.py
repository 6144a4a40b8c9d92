"""Frames in an enclave, as a marimo notebook.

Build the enclave once, in a terminal in this folder: kluis build frames -o frames.kluis --key author.pem
Then: marimo edit frames_marimo.py
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App()


@app.cell
def _():
    import marimo as mo
    import polars as pl

    from kluis import appraisal
    from kluis.evidence import ProtectionLevel
    from kluis.host import load
    from kluis.images import read_image

    return ProtectionLevel, appraisal, load, mo, pl, read_image


@app.cell
def _(load):
    enclave = load("frames.kluis")
    enclave
    return (enclave,)


@app.cell
def _(ProtectionLevel, appraisal, enclave, read_image):
    with open("frames.kluis", "rb") as file:
        image_id = read_image(file).image_id
    policy = appraisal.strict(
        appraisal.ByImage(image_ids=frozenset({image_id})),
        protection=frozenset({ProtectionLevel(enclave.level)}),
        purpose=appraisal.Purpose.CLI,
        counters=frozenset({"unwitnessed"}),
        missing=frozenset(),
    )
    verdict = enclave.attest(policy)
    verdict
    return (verdict,)


@app.cell
def _(enclave, pl, verdict):
    assert not verdict.failed  # no data before the verdict
    people = pl.DataFrame({"sex": ["f", "m"] * 10 + ["x"], "age": range(40, 61)})
    groups = enclave.summary(people, by="sex", of="age").to_polars()
    groups
    return groups, people


@app.cell
def _(enclave, mo, people):
    parts = [len(part) for part in enclave.parts(people, 8)]
    mo.md(f"The rows came in parts of {parts}.")
    return (parts,)


@app.cell
def _(enclave, groups, parts):
    total = (groups["count"].sum(), sum(parts))
    enclave.close()
    return (total,)


if __name__ == "__main__":
    app.run()
