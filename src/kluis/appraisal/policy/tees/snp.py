"""The policy table of SEV-SNP guests.

AMD publishes no judgement of versions: ``min_tcb`` lists the versions required of each product line, and
refuses lines that it does not list.

Spec: AMD 56860, SEV-SNP Firmware ABI, "ATTESTATION_REPORT Structure", "Guest Policy"; bulletins
AMD-SB-3015 (aliased memory) and AMD-SB-3019 (microcode signatures).
"""

from __future__ import annotations

from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.fields import Field, of
from kluis.appraisal.policy.structured import Components
from kluis.appraisal.policy.tees import shared
from kluis.appraisal.policy.values import Product, Value
from kluis.appraisal.policy.wants import Allowed, AtLeast, Form, Named, OneOf, Required
from kluis.evidence.amd.claims import SnpClaims
from kluis.formats.snp import tcb
from kluis.formats.snp.flags import SigningKey

PARTS: Final = {
    str(product): ("fmc",) * product.has_fmc + ("boot_loader", "tee", "snp", "microcode")
    for product in tcb.Product
}


def _reported_product(claims: SnpClaims) -> Value:
    parts = PARTS[str(claims.product)]
    return Product(str(claims.product), {part: getattr(claims.reported_tcb, part) for part in parts})


FIELDS: Final = (
    shared.measurements("launch digest of firmware, kernel if it is measured, and virtual processors", 48),
    shared.signers("digests of the keys that signed the id block", 48),
    Field(
        key="author_keys",
        form=Form(OneOf, sizes=(48,)),
        claim=of(SnpClaims, lambda c: c.author_key_digest.value if c.author_key_digest else None),
        about="digests of the keys that signed the id keys",
        rule="author_key",
        aspect=Aspect.EXECUTABLES,
        fix="launch with an id block whose key the author that the policy names has signed",
    ),
    shared.min_svn("GUEST_SVN, of the id block", 0xFFFFFFFF),
    shared.family_ids("FAMILY_ID, of the id block", 16),
    Field(
        key="image_ids",
        form=Form(OneOf, sizes=(16,)),
        claim=of(SnpClaims, lambda c: c.image_id),
        about="IMAGE_ID, of the id block",
        rule="image_id",
        aspect=Aspect.CONFIGURATION,
        fix="launch the image that the policy names",
    ),
    Field(
        key="host_data",
        form=Form(OneOf, sizes=(32,)),
        claim=of(SnpClaims, lambda c: c.host_data),
        about="HOST_DATA, set by the host at launch: often the hash of a policy",
        rule="host_data",
        aspect=Aspect.CONFIGURATION,
        fix="launch it with the host data that the policy names",
    ),
    Field(
        key="vmpl",
        form=Form(Named, most=3),
        claim=of(SnpClaims, lambda c: c.vmpl),
        about=(
            "privilege levels that may request the report; a report that the host requested has no such level"
        ),
        rule="vmpl",
        aspect=Aspect.EXECUTABLES,
        fix="ask for the report at the level that the policy names",
    ),
    Field(
        key="signing_keys",
        form=Form(Named, known=(SigningKey.VCEK.name, SigningKey.VLEK.name)),
        claim=of(SnpClaims, lambda c: c.signing_key.name),
        about="VCEK is the chip's own, VLEK a cloud's for all its chips",
        rule="signing_key",
        aspect=Aspect.HARDWARE,
        fix="have the host sign with the other kind of key, or accept this one",
    ),
    Field(
        key="csp_ids",
        form=Form(Named),
        claim=of(SnpClaims, lambda c: c.csp_id),
        about="clouds that a VLEK may be lent to",
        rule="csp_id",
        aspect=Aspect.HARDWARE,
        fix="run it in the cloud that the policy names",
    ),
    shared.products("lines of processors", *map(str, tcb.Product)),
    Field(
        key="min_tcb",
        form=Form(Components, products=PARTS),
        claim=of(SnpClaims, _reported_product),
        about="least security versions, part by part; a line that is not named is refused",
        rule="min_tcb",
        aspect=Aspect.HARDWARE,
        fix="update the firmware and the microcode of the host",
    ),
    Field(
        key="min_firmware",
        form=Form(AtLeast, parts=3),
        claim=of(SnpClaims, lambda c: tuple(c.committed_version)),
        about="least firmware that cannot be rolled back",
        rule="min_firmware",
        aspect=Aspect.HARDWARE,
        fix="update the firmware of the host, and commit it",
    ),
    Field(
        key="provisional_firmware",
        form=Form(Allowed),
        claim=of(SnpClaims, lambda c: c.provisional_firmware),
        about="firmware that runs and is not committed: it can be rolled back",
        rule="provisional_firmware",
        aspect=Aspect.HARDWARE,
        fix="have the host commit its firmware",
    ),
    Field(
        key="crl_required",
        form=Form(Required),
        claim=of(SnpClaims, lambda c: c.crl_checked),
        about="whether AMD's revocation list must have been looked at",
        rule="crl",
        aspect=Aspect.HARDWARE,
        fix="give AMD's revocation list with the certificates: --collateral",
    ),
    Field(
        key="alias_check",
        form=Form(Required),
        claim=of(SnpClaims, lambda c: c.platform_info.alias_check_complete),
        about="whether memory was checked for aliases (BadRAM)",
        rule="alias_check",
        aspect=Aspect.HARDWARE,
        fix="update the firmware of the host: AMD-SB-3015",
    ),
    Field(
        key="migration",
        form=Form(Allowed),
        claim=of(SnpClaims, lambda c: c.migratable),
        about="a migration agent may move the guest, and its secrets",
        rule="migration",
        aspect=Aspect.CONFIGURATION,
        fix="launch it with a guest policy that allows no migration agent",
    ),
    Field(
        key="smt",
        form=Form(Allowed),
        claim=of(SnpClaims, lambda c: c.platform_info.smt),
        about="hyper-threading, which lets a neighbour thread measure caches",
        rule="smt",
        aspect=Aspect.CONFIGURATION,
        fix="switch hyper-threading off on the host, and forbid it in the guest policy",
    ),
    Field(
        key="cxl",
        form=Form(Allowed),
        claim=of(SnpClaims, lambda c: c.policy.cxl),
        about="the guest may have CXL devices and memory",
        rule="cxl",
        aspect=Aspect.CONFIGURATION,
        fix="launch it with a guest policy that forbids CXL",
    ),
    Field(
        key="single_socket",
        form=Form(Required),
        claim=of(SnpClaims, lambda c: c.policy.single_socket),
        about="whether the guest policy must keep it on one socket",
        rule="single_socket",
        aspect=Aspect.CONFIGURATION,
        fix="launch it with a guest policy of one socket",
    ),
    Field(
        key="ciphertext_hiding",
        form=Form(Required),
        claim=of(SnpClaims, lambda c: c.policy.ciphertext_hiding),
        about="whether the guest policy must hide even ciphertext from the host",
        rule="ciphertext_hiding",
        aspect=Aspect.CONFIGURATION,
        fix="launch it with a guest policy that hides ciphertext, where the processor can",
    ),
    Field(
        key="rapl_disabled",
        form=Form(Required),
        claim=of(SnpClaims, lambda c: c.policy.rapl_disabled),
        about="whether the guest policy must keep power meters off, which measure what it does",
        rule="rapl_disabled",
        aspect=Aspect.CONFIGURATION,
        fix="launch it with a guest policy that keeps RAPL off",
    ),
    shared.platforms("chip ids: single processors, for where physical attacks matter", 64),
)
