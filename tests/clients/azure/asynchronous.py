"""Every client's asynchronous half, through what Azure's own samples of them do."""

from __future__ import annotations

import asyncio
import json

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity.aio import ClientSecretCredential
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.keys.crypto import EncryptionAlgorithm
from azure.keyvault.keys.crypto.aio import CryptographyClient
from azure.mgmt.attestation.aio import AttestationManagementClient
from azure.security.attestation import AttestationType, CertificateModification, PolicyModification
from azure.security.attestation.aio import AttestationAdministrationClient, AttestationClient
from scenario import MANAGEMENT, PERMIT, World, fresh, release_policy, runtime, scenario, signer

HELLO = b"hello"
SGX = AttestationType.SGX_ENCLAVE


@scenario("aio M makes an Isolated instance, aio A changes its policy and signers, aio C attests there")
def asynchronous_instance(world: World) -> None:
    quote, mine, second = world.quote(HELLO), signer("mine"), signer("second")
    name, properties = fresh("i"), {"policySigningCertificates": {"keys": [mine.jwk]}}

    async def ask() -> None:
        async with (
            world.credential("admin", ClientSecretCredential) as credential,
            AttestationManagementClient(
                credential,
                "subscription",
                base_url=world.attestation,
                credential_scopes=[MANAGEMENT],
                **world.usual,
            ) as manager,
        ):
            providers = manager.attestation_providers
            made = await providers.create("group", name, {"location": "local", "properties": properties})
            url = made.properties.attest_uri
            assert (await providers.get("group", name)).properties.trust_model == "Isolated"
            assert name in [each.name for each in (await providers.list_by_resource_group("group")).value]
            checked = {"validate_issuer": True, "issuer": url, **world.usual}
            async with (
                AttestationAdministrationClient(url, credential, **mine.signing, **checked) as owner,
                AttestationClient(url, credential, **checked) as client,
            ):
                result, _ = await owner.set_policy(SGX, PERMIT)
                assert result.policy_resolution == PolicyModification.UPDATED
                assert (await owner.get_policy(SGX))[0] == PERMIT
                result, _ = await owner.add_policy_management_certificate(second.certificate, **mine.signing)
                assert result.certificate_resolution == CertificateModification.IS_PRESENT
                assert len((await owner.get_policy_management_certificates())[0]) == 2
                result, _ = await owner.remove_policy_management_certificate(
                    second.certificate, **mine.signing
                )
                assert result.certificate_resolution == CertificateModification.IS_ABSENT
                assert (await owner.reset_policy(SGX))[0].policy_resolution == PolicyModification.REMOVED
                assert (await client.get_open_id_metadata())["issuer"] == url
                assert len(await client.get_signing_certificates()) == 1
                report = (
                    (1).to_bytes(4, "little") + (2).to_bytes(4, "little") + len(quote).to_bytes(8, "little")
                )
                result, _ = await client.attest_open_enclave(report + quote, runtime_data=HELLO)
                assert result.enclave_held_data == HELLO
                await owner.set_policy(AttestationType.TPM, PERMIT)
                said = await client.attest_tpm(json.dumps({"payload": {"type": "aikcert"}}))
                assert json.loads(said)["payload"]["challenge"]
            await providers.delete("group", name)
            await _gone(providers.get("group", name))

    asyncio.run(ask())


@scenario(
    "aio K and aio CryptographyClient: made, used, listed, backed up, rotated, released, deleted, recovered"
)
def asynchronous_keys(world: World) -> None:
    name, token = fresh("k"), world.snp_token(runtime())
    policy = release_policy(world.attestation, x_ms_attestation_type="sevsnpvm")

    async def ask() -> None:
        async with (
            world.credential("admin", ClientSecretCredential) as credential,
            KeyClient(world.vault, credential, **world.usual) as keys,
        ):
            made = await keys.create_rsa_key(
                name, hardware_protected=True, exportable=True, release_policy=policy
            )
            async with CryptographyClient(made, credential, **world.usual) as client:
                sealed = await client.encrypt(EncryptionAlgorithm.rsa_oaep, HELLO)
                assert (
                    await client.decrypt(EncryptionAlgorithm.rsa_oaep, sealed.ciphertext)
                ).plaintext == HELLO
            assert (await keys.release_key(name, token)).value
            assert (await keys.rotate_key(name)).id != made.id
            versions = [each async for each in keys.list_properties_of_key_versions(name, max_page_size=1)]
            assert len(versions) == 2
            assert (await keys.get_key_rotation_policy(name)).lifetime_actions
            assert len(await keys.get_random_bytes(8)) == 8
            blob = await keys.backup_key(name)
            assert (await keys.delete_key(name)).recovery_id
            assert name in [each.name async for each in keys.list_deleted_keys()]
            assert (await keys.recover_deleted_key(name)).name == name
            await keys.delete_key(name)
            await keys.purge_deleted_key(name)
            await _gone(keys.get_key(name))
            assert (await keys.restore_key_backup(blob)).name == name

    asyncio.run(ask())


async def _gone(asked: object) -> None:
    try:
        await asked  # type: ignore[misc]
    except HttpResponseError as error:
        assert isinstance(error, ResourceNotFoundError), error
        return
    raise AssertionError("want 404, got an answer")
