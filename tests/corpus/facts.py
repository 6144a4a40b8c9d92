"""Compare a record's facts with the claims: where each recorded value is in them.

A recorded value without a place here is reported by :func:`unasked`, and not compared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from kluis.evidence import Claims
from kluis.formats.tpm.algorithm import LABELS
from tests.corpus import parsed
from tests.corpus.record import Record
from tests.corpus.same import same

Place = str | Callable[[Claims], Any]


# A value that is meaningless for some value of another one.
UNLESS: Final = {"author_key_digest": "author_key_en"}


def _le(place: str, size: int) -> Place:
    return lambda claims: _find(claims, place).to_bytes(size, "little")


def _selection(place: str) -> Place:
    return lambda claims: [
        [LABELS[label].value, sorted(held)] for label, held in _find(claims, place).items()
    ]


def _tcb(place: str) -> Place:
    names = {"fmc": "fmc", "bootloader": "boot_loader", "tee": "tee", "snp": "snp", "microcode": "microcode"}
    return lambda claims: {theirs: getattr(_find(claims, place), ours) for theirs, ours in names.items()}


EXPECTED: Final[Mapping[str, Place]] = {
    "tcb_status": "tcb.status",
    "advisory_ids": lambda claims: frozenset(claims.tcb.advisories),
    "advisories": lambda claims: frozenset(claims.tcb.advisories),
    "tcb_date": "tcb.date",
    "debug": "debug",
    "status_detail": lambda claims: {
        "platform": claims.vendor.platform,  # type: ignore[attr-defined]  # only Intel's evidence has it
        "qe": claims.vendor.quoting_enclave,  # type: ignore[attr-defined]
        "module": getattr(claims.vendor, "module", None),
    },
    "launch_tcb_status": "vendor.launch.status",
    "current_tcb_status": "vendor.current.status",
    "checks.td_tcb_status": "tcb.status",
    "checks.td_advisories": "tcb.advisories",
    "product": "platform.product",
    "endorsement": "vendor.signing_key",
    "cert_tcb": _tcb("vendor.reported_tcb"),
    "tcb_evaluation_data_number": lambda claims: {
        "tcb_info": _find(claims, "vendor.tcb_info_evaluation"),
        "qe_identity": _find(claims, "vendor.qe_identity_evaluation"),
    },
}
# Said of the source, of what a policy would do, or of checks that a verifier cannot leave out.
SAID: Final = frozenset(
    {
        "outcome",
        "why",
        "checks",
        "policy_note",
        "tcb_status_if_ignored",
        "cert_serial",
        "tcb_matches_certificate",
        "chip_id_matches",
        "rtmr_matches_quote",
        "trailing_bytes",
    }
)


# Checks that every verification includes: a record with a failed one must be refused.
PROVEN: Final = frozenset(
    {
        "signature",
        "chain_ok",
        "root_is_nvidia_device_identity_ca",
        "rak_binding",
        "realm_signature",
        "platform_signature",
    }
)


_INTEL: Final[Mapping[str, Place]] = {
    "report_data": "report_data",
    "debug": "debug",
    "ppid": "vendor.ppid",
    "fmspc": "vendor.fmspc",
    "pceid": "vendor.pceid",
    "pck_tcb_components": "vendor.components",
    "pck_pcesvn": "vendor.pcesvn",
    "pck_serial": "vendor.pck_serial",
    "pck_ca": lambda claims: "platform" if "Platform" in _find(claims, "vendor.pck_ca") else "processor",
    "qe_isvsvn": "vendor.qe_svn",
}
KNOWN: Final[Mapping[str, Mapping[str, Place]]] = {
    "sgx": {
        **_INTEL,
        "mrenclave": "measurement",
        "mrsigner": "signer",
        "isvprodid": "product_id",
        "isvsvn": "svn",
        "attributes": _le("vendor.attributes", 16),
    },
    "tdx": {
        **_INTEL,
        "mrtd": "measurement",
        **{f"rtmr{index}": f"registers.rtmr{index}" for index in range(4)},
        "tee_tcb_svn": "vendor.tee_tcb_svn",
        "tee_tcb_svn2": "vendor.tee_tcb_svn_2",
        "mrseam": "vendor.mrseam",
        "mrsignerseam": "vendor.mrsignerseam",
        "seamattributes": _le("vendor.seam_attributes", 8),
        "tdattributes": _le("vendor.td_attributes", 8),
        "xfam": _le("vendor.xfam", 8),
        "mrconfigid": "vendor.mrconfigid",
        "mrowner": "vendor.mrowner",
        "mrownerconfig": "vendor.mrownerconfig",
        "mrservicetd": "vendor.mrservicetd",
        "sept_ve_disable": "vendor.sept_ve_disable",
    },
    "nitro": {
        "module_id": "vendor.module_id",
        "timestamp": "vendor.timestamp",
        "timestamp_ms": lambda claims: round(_find(claims, "vendor.timestamp").timestamp() * 1000),
        "pcrs": lambda claims: {
            name.removeprefix("pcr"): digest for name, digest in claims.registers.items() if any(digest.value)
        },
        "pcr_indices": lambda claims: sorted(int(name.removeprefix("pcr")) for name in claims.registers),
        "public_key": "vendor.public_key",
        "user_data": "vendor.user_data",
        "nonce": "vendor.nonce",
        "debug_mode": "debug",
    },
    "tpm": {
        "extra_data": "nonce",
        "clock": "vendor.clock_milliseconds",
        "reset_count": "vendor.reset_count",
        "restart_count": "vendor.restart_count",
        "safe": lambda claims: int(_find(claims, "vendor.clock_safe")),
        "firmware_version": "vendor.firmware_version",
        "pcr_selection": _selection("vendor.pcrs"),
        "pcr_digest": "measurement",
        "qualified_signer": "vendor.qualified_signer",
    },
    "nvidia": {"nonce": "nonce", "trailing_bytes": "vendor.trailing_bytes"},
    "azure": {
        "hcl_header_version": "vendor.header_version",
        "report_type": "vendor.hardware.tee",
        "report_data": "vendor.hardware.report_data",
        "td_report_data": "vendor.hardware.report_data",
        "vm_unique_id": "vendor.vm_id",
        "user_data": "vendor.user_data",
        "vm_configuration": lambda claims: dict(_find(claims, "vendor.configuration")),
        "kids": "vendor.key_ids",
        "measurement": "measurement",
        "mrtd": "measurement",
        "tdattributes": _le("vendor.hardware.vendor.td_attributes", 8),
        "chip_id": "platform.id",
        "snp_version": "vendor.hardware.vendor.version",
        "reported_tcb": lambda claims: _find(claims, "vendor.hardware.vendor.reported_tcb").encode(),
        "vmpl": "vendor.hardware.vendor.vmpl",
        "tpm_extra_data": "nonce",
        "tpm_firmware": "vendor.tpm.vendor.firmware_version",
        "tpm_pcr_selection": _selection("vendor.tpm.vendor.pcrs"),
    },
    "cca": {
        "platform.impl_id": "vendor.implementation_id",
        "platform.instance_id": "vendor.instance_id",
        "platform.profile": "vendor.platform_profile",
        "platform.lifecycle": "vendor.state",
        "platform.config": "vendor.config",
        "realm.challenge": "nonce",
        "realm.rim": "measurement",
        "realm.rem": lambda claims: list(claims.registers.values()),
        "realm.rpv": "vendor.personalization_value",
        "realm.hash_algo": "vendor.hash_algorithm",
        "realm.profile": "vendor.realm_profile",
    },
    "snp": {
        "version": "vendor.version",
        "guest_svn": "svn",
        "policy": lambda claims: _find(claims, "vendor.policy").encode(),
        "policy_smt": "vendor.policy.smt",
        "policy_migrate_ma": "vendor.policy.migrate_ma",
        "policy_debug": "debug",
        "policy_single_socket": "vendor.policy.single_socket",
        "family_id": "family_id",
        "image_id": "vendor.image_id",
        "vmpl": "vendor.vmpl",
        "platform_info": lambda claims: _find(claims, "vendor.platform_info").encode(),
        "smt_en": "vendor.platform_info.smt",
        "tsme_en": "vendor.platform_info.tsme",
        "ecc_en": "vendor.platform_info.ecc",
        "rapl_dis": "vendor.platform_info.rapl_disabled",
        "ciphertext_hiding": "vendor.platform_info.ciphertext_hiding",
        "alias_check_complete": "vendor.platform_info.alias_check_complete",
        "tio_en": "vendor.platform_info.tio",
        "mask_chip_key": "vendor.mask_chip_key",
        "signing_key": "vendor.signing_key",
        "report_data": "report_data",
        "measurement": "measurement",
        "host_data": "vendor.host_data",
        "id_key_digest": "signer",
        "author_key_digest": "vendor.author_key_digest",
        "report_id": "vendor.report_id",
        "chip_id": "vendor.chip_id",
        "current_version": lambda claims: str(_find(claims, "vendor.current_version")),
        "committed_version": lambda claims: str(_find(claims, "vendor.committed_version")),
        "cpuid_family": "vendor.cpuid.family",
        "cpuid_model": "vendor.cpuid.model",
        "cpuid_stepping": "vendor.cpuid.stepping",
        "launch_mitigation_vector": "vendor.launch_mitigations",
        "current_mitigation_vector": "vendor.current_mitigations",
        **{
            f"{name}_tcb": _tcb(f"vendor.{name}_tcb")
            for name in ("reported", "current", "committed", "launch")
        },
    },
}


def differences(record: Record, claims: Claims | None) -> tuple[str, ...]:
    """Say which claims, and which values in the bytes, are not as recorded."""
    found = []
    readers = {} if record.derived else parsed.PLACES.get(record.tee, {})
    recorded = _flat(record.known)
    for name, reader in readers.items():
        if name in recorded and not same(got := reader(record.files), recorded[name]):
            found.append(f"{name}: want {_short(recorded[name])}, got {_short(got)}")
    if claims is None:
        return tuple(found)
    found += (
        f"{name}: want it not to hold, got verified"
        for name in sorted(PROVEN & set(record.known))
        if not _holds(record.known[name])
    )
    for values, places in (
        (_flat(record.expected), EXPECTED),
        (recorded, KNOWN.get(record.tee, {})),
    ):
        for name, place in places.items():
            if name not in values or (name in UNLESS and record.known.get(UNLESS[name]) is False):
                continue
            try:
                got = _find(claims, place)
            except AttributeError as error:
                found.append(f"{name}: want {_short(values[name])}, got no such claim ({error})")
                continue
            if not same(got, values[name]):
                found.append(f"{name}: want {_short(values[name])}, got {_short(got)}")
    return tuple(found)


def _holds(value: Any) -> bool:
    """Whether a check is recorded as one that holds; of a list, each."""
    return all(each is True for each in (value if isinstance(value, list) else [value]))


def unasked(record: Record) -> tuple[str, ...]:
    """The recorded values that nothing is compared with."""
    known = {**KNOWN.get(record.tee, {}), **parsed.PLACES.get(record.tee, {}), **dict.fromkeys(PROVEN)}
    return (
        *(f"expected.{name}" for name in record.expected if name not in EXPECTED and name not in SAID),
        *(f"known.{name}" for name in record.known if name not in known and not _inside(name, known)),
        *(
            f"known.{name}"
            for name in _flat(record.known)
            if "." in name and _inside(name.partition(".")[0], known) and name not in known
        ),
    )


def refused_by_any_policy(record: Record, claims: Claims | None) -> bool:
    """Whether authentic evidence is such that no policy can accept it, if the record states exactly that.

    A platform that reaches no level has a status that no policy can name; a nonce is chosen by the relying
    party, and another nonce means evidence of another conversation.
    """
    if claims is None:
        return False
    if record.expected.get("tcb_status") in {"NotSupported", "Revoked"}:
        return same(claims.tcb.status, record.expected["tcb_status"])
    nonce = record.known.get("nonce")
    return nonce is not None and claims.nonce is not None and not same(claims.nonce, nonce)


def _flat(known: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded values, and those one level down by both names."""
    inner = {
        f"{name}.{key}": item
        for name, value in known.items()
        if isinstance(value, Mapping)
        for key, item in value.items()
    }
    return {**known, **inner}


def _inside(name: str, known: Mapping[str, object]) -> bool:
    return any(place.startswith(f"{name}.") for place in known)


def _find(claims: Claims, place: Place) -> Any:
    if callable(place):
        return place(claims)
    return functools.reduce(_step, place.split("."), claims)


def _step(value: Any, name: str) -> Any:
    return value[name] if isinstance(value, Mapping) else getattr(value, name)


def _short(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= 80 else f"{text[:60]}..{text[-16:]}"
