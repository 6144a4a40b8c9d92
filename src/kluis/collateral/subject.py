"""Determine from evidence which of the vendors' documents endorse it. Nothing here is verified.

Evidence only selects a vendor's documents by identifier; it never states their location.
"""

from __future__ import annotations

from typing import TypeAlias

from kluis.collateral.documents import Key
from kluis.errors import UnavailableError, UnsupportedError
from kluis.evidence.azure import hcl
from kluis.evidence.registry import kind_of
from kluis.evidence.wrappers.unwrap import unwrap
from kluis.formats import x509
from kluis.formats.cca.endorsements import Endorsements as CcaEndorsements
from kluis.formats.hcl import report as hcl_report
from kluis.formats.hcl.report import ReportType
from kluis.formats.ietf import cmw
from kluis.formats.sgx import extension
from kluis.formats.sgx import quote as dcap_quote
from kluis.formats.sgx.certification import CertificationType
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp import extensions, response
from kluis.formats.snp.endorsements import Endorsements
from kluis.formats.snp.flags import Flags, SigningKey
from kluis.formats.snp.tcb import Product, TcbVersion, product_of
from kluis.frozen import frozen


@frozen
class Intel:
    """A quote's platform: ``sgx`` or ``tdx``, 12 hex digits of FMSPC, ``platform`` or ``processor``."""

    tee: str
    fmspc: str
    ca: str


@frozen(kw_only=True)
class Amd:
    """A report's chip.

    Attributes:
        products: whose keys may have signed it; more than one if the report does not state it.
        chip_id: 64 bytes; empty if a VLEK signed, which names no chip.
        reported_tcb: 8 bytes, in the product's layout.
        carried: endorsements from the report's own certificate table.
    """

    products: tuple[Product, ...]
    chip_id: bytes
    reported_tcb: bytes
    carried: Endorsements

    @property
    def signer(self) -> str:
        """``vcek`` or ``vlek``."""
        return "vcek" if self.chip_id else "vlek"

    def vcek_key(self, product: Product) -> Key:
        """The words that identify its VCEK: product, chip, component versions.

        Raises:
            FormatError: the TCB does not fit the product's layout.
        """
        tcb = TcbVersion.parse(self.reported_tcb, product, "SNP report.reported_tcb")
        chip = self.chip_id[: extensions.TURIN_ID_SIZE] if product.has_fmc else self.chip_id
        parts = (tcb.fmc, tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode)
        return (product.value, chip.hex(), "-".join(str(part) for part in parts if part is not None))


Subject: TypeAlias = Intel | Amd


def of(data: bytes) -> Subject:
    """Determine which documents endorse the evidence, which may be in a wrapper.

    Raises:
        FormatError: not such evidence.
        UnsupportedError: no service publishes endorsements of its kind.
        UnavailableError: it does not identify its platform.
    """
    unwrapped = unwrap(data)
    if unwrapped is not None:
        data = unwrapped.inner
    kind = kind_of(data)
    if kind.verify is hcl.verify:
        return _azure(data)
    if Endorsements in kind.endorsements:
        return _amd(response.parse(data))
    if Collateral in kind.endorsements:
        return _intel(dcap_quote.parse(data))
    if not kind.endorsements:
        raise UnsupportedError(
            f"{kind.name}: carries all that endorses it",
            hint="kluis verify needs no collateral for it",
            code="unsupported",
        )
    raise UnsupportedError(
        f"{kind.name}: no service publishes what endorses it",
        hint="name the platform's key: kluis verify --root cpak.pem --root-level hardware-cca"
        if CcaEndorsements in kind.endorsements
        else "give its certificates with --collateral",
        code="unsupported",
    )


def _azure(data: bytes) -> Subject:
    """The hardware under an Azure VM: the report inside the HCL report, or the separate TD quote."""
    parts = {"hcl_report": data}
    if not hcl_report.matches(data):
        parts = {name: part.value for name, part in cmw.Collection.parse(data).parts.items()}
    report = hcl_report.parse(parts["hcl_report"])
    if report.report_type is ReportType.SNP:
        return _amd(response.parse(report.hardware))
    if "td_quote" not in parts:
        raise UnavailableError(
            "HCL report: a TDREPORT is signed by nobody, and names no platform",
            hint="add the TD quote of it: POST the TDREPORT to http://169.254.169.254/acc/tdquote",
            code="chain_missing",
        )
    return _intel(dcap_quote.parse(parts["td_quote"]))


def _intel(quote: dcap_quote.Quote) -> Intel:
    if quote.certification_type != CertificationType.PCK_CHAIN:
        raise UnavailableError(
            f"{quote.name}: want a PCK chain as certification data (5), got {quote.certification_type}",
            hint="only its platform's owner can ask Intel for the PCK certificate",
            code="chain_missing",
        )
    tee = "tdx" if quote.header.tee_type == dcap_quote.TEE_TDX else "sgx"
    for certificate in x509.parse_pem(quote.certification_data, "PCK chain"):
        if extension.OID in certificate.extensions:
            platform = extension.parse(certificate.extensions[extension.OID])
            ca = "processor" if b"PCK Processor CA" in certificate.issuer else "platform"
            return Intel(tee, platform.fmspc.hex(), ca)
    raise UnavailableError(f"{quote.name}: its chain has no PCK certificate", code="chain_missing")


def _amd(answer: response.Response) -> Amd:
    report = answer.report
    vlek = Flags.parse(report.flags).signing_key is SigningKey.VLEK
    carried = Endorsements.from_table(answer.table, vlek=vlek) if answer.table else Endorsements()
    if carried.vek is None and (vlek or not any(report.chip_id)):
        raise UnavailableError(
            "SNP report: "
            + ("a VLEK signed it, and AMD publishes none" if vlek else "its chip id is masked"),
            hint="its host has the certificate: take the extended report, or give it with --collateral",
            code="chain_missing",
        )
    # Version 2 does not state it: both product lines that made such reports are queried.
    product = product_of(report.cpuid) if report.cpuid else None
    return Amd(
        products=(product,) if product else (Product.MILAN, Product.GENOA),
        chip_id=b"" if vlek else report.chip_id,
        reported_tcb=report.reported_tcb,
        carried=carried,
    )
