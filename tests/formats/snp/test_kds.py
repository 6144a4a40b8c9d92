"""Paths of AMD's service: a VCEK is named by product, chip and TCB."""

from __future__ import annotations

from kluis.formats.snp import kds
from kluis.formats.snp.tcb import Product, TcbVersion


def test_paths() -> None:
    """Turin names a chip by 8 bytes and a TCB by five numbers; others by 64 and four."""
    tcb = TcbVersion(boot_loader=4, tee=0, snp=24, microcode=219)
    chip = bytes(range(64))
    assert kds.vcek(Product.GENOA, chip, tcb) == (
        f"/vcek/v1/Genoa/{chip.hex()}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"
    )
    tcb = TcbVersion(fmc=1, boot_loader=4, tee=0, snp=2, microcode=71)
    assert kds.vcek(Product.TURIN, chip, tcb) == (
        "/vcek/v1/Turin/0001020304050607?fmcSPL=01&blSPL=04&teeSPL=00&snpSPL=02&ucodeSPL=71"
    )
    assert kds.chain(Product.MILAN) == "/vcek/v1/Milan/cert_chain"
    assert kds.chain(Product.MILAN, vlek=True) == "/vlek/v1/Milan/cert_chain"
    assert (kds.crl(Product.TURIN), kds.crl(Product.TURIN, vlek=True)) == (
        "/vcek/v1/Turin/crl",
        "/vlek/v1/Turin/crl",
    )
