"""The tables of every TEE: each key's form, rule and aspect, and the one claim that it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from kluis.appraisal import Aspect
from kluis.appraisal.policy.structured import Components, Masked, Registers
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.values import Product, Value
from kluis.appraisal.policy.wants import Allowed, AtLeast, AtMost, Exactly, Form, Named, OneOf, Required
from kluis.evidence.model import Claims, Tee
from kluis.evidence.nvidia.device import Device
from kluis.formats.cca.platform import Component
from kluis.formats.nvidia.opaque import Feature
from kluis.formats.snp.flags import SigningKey
from kluis.formats.snp.report import FirmwareVersion
from kluis.formats.snp.tcb import Product as Line
from kluis.formats.snp.tcb import TcbVersion
from tests.appraisal.samples import NOW, SAMPLES, TDX, changed, digest

HARD, KEPT, CODE, WHO = Aspect.HARDWARE, Aspect.CONFIGURATION, Aspect.EXECUTABLES, Aspect.INSTANCE_IDENTITY
Allow, Require = Form(Allowed), Form(Required)
VERSIONS = {"boot_loader": 4, "tee": 0, "snp": 25, "microcode": 219}
PARTS = ("boot_loader", "tee", "snp", "microcode")
LINES = {"Milan": PARTS, "Genoa": PARTS, "Turin": ("fmc", *PARTS), "Venice": ("fmc", *PARTS)}


class Row(NamedTuple):
    """A key of a table: what it is, where its claim stands, what is put there, and what it reads then."""

    key: str
    form: Form
    rule: str
    aspect: Aspect
    path: str
    put: Any
    reads: Value
    drafted: bool = True


def _same(key: str, form: Form, rule: str, aspect: Aspect, path: str, put: Any) -> Row:
    return Row(key, form, rule, aspect, path, put, put)


def _measurements(*sizes: int) -> Row:
    form = Form(OneOf, sizes=sizes, referenced=True)
    return Row("measurements", form, "measurement", CODE, "measurement", digest(77), digest(77).value)


def _signers(size: int) -> Row:
    return Row("signers", Form(OneOf, sizes=(size,)), "signer", CODE, "signer", digest(78), digest(78).value)


def _registers(pattern: str, drafted: str | None = None) -> Row:
    form = Form(Registers, pattern=pattern, drafted=drafted, referenced=True)
    return _same("registers", form, "registers", CODE, "registers", {"a": digest(79)})


def _products(*known: str, fmspcs: bool = False) -> Row:
    return _same(
        "products", Form(Named, known=known, fmspcs=fmspcs), "product", HARD, "platform.product", "another"
    )


def _platforms(*sizes: int) -> Row:
    return Row(
        "platforms", Form(OneOf, sizes=sizes), "platform", WHO, "platform.id", b"another", b"another", False
    )


def _in(vendor: str, key: str, form: Form, rule: str, aspect: Aspect, put: Any) -> Row:
    return Row(key, form, rule, aspect, f"vendor.{vendor}", put, put)


INTEL = (
    _products(fmspcs=True),
    _in("pcesvn", "min_pce_svn", Form(AtLeast, most=0xFFFF), "pce_svn", HARD, 99),
    _in("smt", "smt", Allow, "smt", KEPT, None),
    _in("dynamic", "dynamic_platform", Allow, "dynamic_platform", HARD, True),
    _in("cached_keys", "cached_keys", Allow, "cached_keys", HARD, None),
    _platforms(16),
)
ROWS: dict[Tee, tuple[Row, ...]] = {
    Tee.SGX: (
        _measurements(32),
        _signers(32),
        _same("product_id", Form(Exactly, most=0xFFFF), "product_id", CODE, "product_id", 99),
        _same("min_svn", Form(AtLeast, most=0xFFFF), "svn", CODE, "svn", 98),
        _same("config_ids", Form(OneOf, sizes=(64,)), "config_id", KEPT, "config_id", b"c"),
        _same("family_ids", Form(OneOf, sizes=(16,)), "family_id", KEPT, "family_id", b"f"),
        _in("attributes", "attributes", Form(Masked, width=128, mask=0x36), "attributes", KEPT, 4),
        *INTEL,
    ),
    Tee.TDX: (
        _measurements(48),
        _registers(r"rtmr[0-3]"),
        _in("mrseam", "modules", Form(OneOf, sizes=(48,)), "module", HARD, b"s")._replace(drafted=False),
        _in("mrconfigid", "config_ids", Form(OneOf, sizes=(48,)), "config_id", KEPT, b"c"),
        _in("mrowner", "owners", Form(OneOf, sizes=(48,)), "owner", KEPT, b"o"),
        _in("mrownerconfig", "owner_configs", Form(OneOf, sizes=(48,)), "owner_config", KEPT, b"oc"),
        _in("mrservicetd", "service_domains", Form(OneOf, sizes=(48,)), "service_domain", KEPT, b"sd"),
        # Not drafted: LASS, SEPT_VE_DISABLE, PKS, KL and PERFMON.
        _in(
            "td_attributes",
            "attributes",
            Form(
                Masked,
                width=64,
                mask=0xFFFF_FFFF_FFFF_FFFF & ~(1 << 27 | 1 << 28 | 1 << 30 | 1 << 31 | 1 << 63),
            ),
            "attributes",
            KEPT,
            5,
        ),
        _in("xfam", "xfam", Form(Masked, width=64, mask=0xFFFF_FFFF_FFFF_FFFF), "xfam", KEPT, 6),
        _in("migratable", "migration", Allow, "migration", KEPT, True),
        *INTEL,
    ),
    Tee.SNP: (
        _measurements(48),
        _signers(48),
        Row(
            "author_keys",
            Form(OneOf, sizes=(48,)),
            "author_key",
            CODE,
            "vendor.author_key_digest",
            digest(7),
            digest(7).value,
        ),
        _same("min_svn", Form(AtLeast, most=0xFFFF_FFFF), "svn", CODE, "svn", 98),
        _same("family_ids", Form(OneOf, sizes=(16,)), "family_id", KEPT, "family_id", b"f"),
        _in("image_id", "image_ids", Form(OneOf, sizes=(16,)), "image_id", KEPT, b"i"),
        _in("host_data", "host_data", Form(OneOf, sizes=(32,)), "host_data", KEPT, b"h"),
        _in("vmpl", "vmpl", Form(Named, most=3), "vmpl", CODE, 3),
        Row(
            "signing_keys",
            Form(Named, known=("VCEK", "VLEK")),
            "signing_key",
            HARD,
            "vendor.signing_key",
            SigningKey.VCEK,
            "VCEK",
        ),
        _in("csp_id", "csp_ids", Form(Named), "csp_id", HARD, "another cloud"),
        _products("Milan", "Genoa", "Turin", "Venice"),
        Row(
            "min_tcb",
            Form(
                Components,
                products={
                    "Milan": PARTS,
                    "Genoa": PARTS,
                    **dict.fromkeys(("Turin", "Venice"), ("fmc", *PARTS)),
                },
            ),
            "min_tcb",
            HARD,
            "vendor.reported_tcb",
            TcbVersion(**VERSIONS),
            Product("Milan", VERSIONS),
        ),
        Row(
            "min_firmware",
            Form(AtLeast, parts=3),
            "min_firmware",
            HARD,
            "vendor.committed_version",
            FirmwareVersion(1, 2, 3),
            (1, 2, 3),
        ),
        _in("provisional_firmware", "provisional_firmware", Allow, "provisional_firmware", HARD, True),
        _in("crl_checked", "crl_required", Require, "crl", HARD, False),
        _in("platform_info.alias_check_complete", "alias_check", Require, "alias_check", HARD, False),
        _in("migratable", "migration", Allow, "migration", KEPT, True),
        _in("platform_info.smt", "smt", Allow, "smt", KEPT, False),
        _in("policy.cxl", "cxl", Allow, "cxl", KEPT, True),
        _in("policy.single_socket", "single_socket", Require, "single_socket", KEPT, True),
        _in("policy.ciphertext_hiding", "ciphertext_hiding", Require, "ciphertext_hiding", KEPT, True),
        _in("policy.rapl_disabled", "rapl_disabled", Require, "rapl_disabled", KEPT, True),
        _platforms(64),
    ),
    Tee.NITRO: (
        _products("Nitro Enclaves", "NitroTPM"),
        _measurements(48),
        _signers(48),
        _registers(r"pcr(?:[0-9]|[12][0-9]|3[01])", r"pcr[0128]"),
        Row(
            "max_document_age_seconds",
            Form(AtMost, most=3_153_600_000, age_seconds=300),
            "document_age",
            WHO,
            "vendor.timestamp",
            NOW - timedelta(seconds=99, milliseconds=999),
            99,
        ),
        Row("public_key_required", Require, "public_key", KEPT, "vendor.public_key", None, False),
        _in("module_id", "modules", Form(Named), "module_id", WHO, "i-1")._replace(drafted=False),
    ),
    Tee.TPM: (
        _registers(r"pcr(?:[0-9]|1[0-9]|2[0-3])"),
        Row("event_log_required", Require, "event_log", CODE, "vendor.log.failed", frozenset({4}), False),
        _in("log.secure_boot", "secure_boot", Require, "secure_boot", KEPT, False),
        _in("key_certified", "certified_key", Require, "ak_certified", HARD, False),
        _in("revocation_checked", "revocation_required", Require, "revocation", HARD, False),
        _platforms(32),
    ),
    Tee.AZURE: (
        Row("hardware", Form(Named, known=("snp", "tdx")), "hardware", HARD, "vendor.hardware", TDX, "tdx"),
        Row("vtpm_required", Require, "vtpm", CODE, "vendor.tpm", None, False),
        _in(
            "tpm.registers",
            "registers",
            Form(Registers, pattern=r"pcr(?:[0-9]|1[0-9]|2[0-3])", referenced=True),
            "pcrs",
            CODE,
            {"pcr0": digest(79)},
        ),
        Row("event_log_required", Require, "event_log", CODE, "vendor.tpm.vendor.log", None, False),
        _in("configuration.secure-boot", "secure_boot", Require, "secure_boot", KEPT, False),
        _in("configuration.console-enabled", "console", Allow, "console", KEPT, False),
        _in("key_certified", "certified_key", Require, "ak_certified", HARD, True),
        _in("vm_id", "vms", Form(Named), "vm", WHO, "another VM")._replace(drafted=False),
    ),
    Tee.NVIDIA: (
        Row(
            "devices",
            Form(Named, known=tuple(Device)),
            "device",
            HARD,
            "vendor.device",
            Device.SWITCH,
            "switch",
        ),
        _products(),
        _measurements(48),
        _registers(r"block[1-9][0-9]{0,2}"),
        _in("driver_version", "drivers", Form(Named), "driver", CODE, "1"),
        _in("vbios_version", "vbios", Form(Named), "vbios", CODE, "2"),
        _in("fwid", "firmware_ids", Form(OneOf, sizes=(48,)), "firmware_id", CODE, b"3"),
        Row(
            "features",
            Form(Named, known=tuple(feature.name.lower() for feature in Feature)),
            "feature",
            KEPT,
            "vendor.feature",
            Feature.MULTIPLE_PASS_THROUGH,
            "multiple_pass_through",
        ),
        _in("protected_pcie", "clear_links", Allow, "clear_links", KEPT, True),
        _in("revocation_checked", "revocation_required", Require, "revocation", HARD, False),
        _platforms(),
    ),
    Tee.CCA: (
        _measurements(32, 48, 64),
        _registers(r"rem[0-3]"),
        _in(
            "personalization_value",
            "personalization",
            Form(OneOf, sizes=(64,)),
            "personalization",
            KEPT,
            b"p",
        ),
        _in(
            "implementation_id",
            "implementation_ids",
            Form(OneOf, sizes=(32,)),
            "implementation_id",
            HARD,
            b"i",
        ),
        Row(
            "firmware",
            Form(Registers, pattern=r"[A-Za-z0-9_.-]{1,64}"),
            "firmware",
            HARD,
            "vendor.components",
            tuple(
                Component(
                    kind=str(size), measurement=b"m" * size, version="1", signer=b"", hash_algorithm=None
                )
                for size in (32, 48, 64)
            ),
            {str(size): digest(ord("m"), size) for size in (32, 48, 64)},
        ),
        _platforms(33),
    ),
}
# What stands beside what is read, and is read by none.
OTHERS: dict[Tee, dict[str, Any]] = {
    Tee.SNP: {
        "vendor.policy.smt": False,
        "vendor.policy.migrate_ma": True,
        "vendor.id_key_digest": digest(9),
        "vendor.chip_id": bytes(64),
        "vendor.report_id": bytes(32),
        "vendor.current_version": FirmwareVersion(9, 9, 9),
        **{f"vendor.{name}_tcb": TcbVersion(**VERSIONS) for name in ("current", "committed", "launch")},
    },
    Tee.NITRO: {"valid_until": NOW, "vendor.user_data": b"u", "vendor.nonce": b"n", "platform.id": b"p"},
    Tee.AZURE: {"registers": {}, "vendor.configuration.tpm-enabled": False, "platform.product": "P"},
    Tee.CCA: {"platform.product": "P", "nonce": b"n"},
}


def _put(held: Any, path: str, value: Any) -> Any:
    """The same with another value in one place."""
    name, _, rest = path.partition(".")
    if isinstance(held, Mapping):
        return {**held, name: _put(held[name], rest, value) if rest else value}
    return dataclasses.replace(held, **{name: _put(getattr(held, name), rest, value) if rest else value})


def _read(claims: Claims) -> dict[str, Value]:
    return {field.key: field.claim(claims) for field in TABLES[claims.tee]}


@pytest.mark.parametrize("tee", Tee)
def test_table(tee: Tee) -> None:
    """Each key, in order, with its form, its rule, what it speaks of, and whether a draft states it."""
    assert [(f.key, f.form, f.rule, f.aspect, f.drafted) for f in TABLES[tee]] == [
        (row.key, row.form, row.rule, row.aspect, row.drafted) for row in ROWS[tee]
    ]


@pytest.mark.parametrize(
    ("tee", "row"),
    [(tee, row) for tee, rows in ROWS.items() for row in rows],
    ids=lambda each: each.key if isinstance(each, Row) else each,
)
def test_a_key_reads_one_claim(tee: Tee, row: Row) -> None:
    """What is put where a key's claim stands changes what that key reads, and no other key's."""
    before = _read(SAMPLES[tee])
    assert before[row.key] != row.reads
    # Without a TPM there are no registers and no log; nothing else hangs together.
    without = {"registers": None, "event_log_required": False} if row.key == "vtpm_required" else {}
    assert _read(_put(SAMPLES[tee], row.path, row.put)) == {**before, row.key: row.reads, **without}


@pytest.mark.parametrize(("tee", "path"), [(tee, path) for tee, others in OTHERS.items() for path in others])
def test_what_no_key_reads(tee: Tee, path: str) -> None:
    """What only looks like a claim of a key is none."""
    claims = _put(SAMPLES[tee], path, OTHERS[tee][path])
    assert claims != SAMPLES[tee]
    assert _read(claims) == _read(SAMPLES[tee])


def test_the_parts_of_a_line_with_mutable_code() -> None:
    """Turin's security versions begin with those of its first mutable code."""
    turin = changed(SAMPLES[Tee.SNP], product=Line.TURIN, reported_tcb=TcbVersion(fmc=3, **VERSIONS))
    found = _read(turin)["min_tcb"]
    assert isinstance(found, Product)
    assert (found.name, found) == ("Turin", {"fmc": 3, **VERSIONS})


@pytest.mark.parametrize(
    ("ahead", "age"), [(timedelta(0), 0), (timedelta(seconds=299), 0), (timedelta(seconds=-1), 1)]
)
def test_a_document_of_the_future_is_as_new_as_one_of_now(ahead: timedelta, age: int) -> None:
    """A module's clock may be ahead."""
    claims = changed(SAMPLES[Tee.NITRO], timestamp=NOW + ahead)
    assert _read(claims)["max_document_age_seconds"] == age


@pytest.mark.parametrize(
    ("kinds", "named"),
    [
        ((), True),
        (("BL", "M1"), True),
        (("x" * 64,), True),
        (("BL", None), False),
        (("BL", "M1", "BL"), False),
        (("x" * 65,), False),
        (("BL\n",), False),
        (("B L",), False),
        (("",), False),
        (("BĹ",), False),
    ],
)
def test_parts_of_firmware_by_name(kinds: tuple[str | None, ...], named: bool) -> None:
    """Parts of a platform's firmware are read where each has a name of its own."""
    parts = tuple(
        Component(kind=kind, measurement=b"m" * 32, version="1", signer=b"", hash_algorithm=None)
        for kind in kinds
    )
    found = _read(changed(SAMPLES[Tee.CCA], components=parts))["firmware"]
    assert found == (dict.fromkeys(kinds, digest(ord("m"), 32)) if named else None)


@pytest.mark.parametrize(
    ("tee", "key", "path", "put"),
    [
        (Tee.SNP, "author_keys", "vendor.author_key_digest", None),
        (Tee.SNP, "signers", "signer", None),
        (Tee.NVIDIA, "features", "vendor.feature", None),
        (Tee.AZURE, "secure_boot", "vendor.configuration.secure-boot", None),
        (Tee.AZURE, "secure_boot", "vendor.configuration.secure-boot", 1),
        (Tee.AZURE, "console", "vendor.configuration.console-enabled", "false"),
        (Tee.TPM, "secure_boot", "vendor.log", None),
    ],
)
def test_what_is_not_there(tee: Tee, key: str, path: str, put: Any) -> None:
    """A claim that the evidence does not have, or has as something else, is none."""
    assert _read(_put(SAMPLES[tee], path, put))[key] is None


@pytest.mark.parametrize("tee", Tee)
def test_another_makers_claims(tee: Tee) -> None:
    """A key that only one maker's evidence has reads nothing in another's."""
    other = SAMPLES[Tee.NVIDIA if tee is not Tee.NVIDIA else Tee.TPM].vendor
    found = _read(dataclasses.replace(SAMPLES[tee], vendor=other))
    assert all(found[row.key] is None for row in ROWS[tee] if row.path.startswith("vendor."))
