"""Users and roles of Azure Confidential Ledger. The last administrator cannot be taken away."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from kluis.formats.ccf.txid import HEADER
from kluis.ledger.store import Transaction
from kluis.services.ledger.azure.versions import GA, PREVIEW, STABLE, at_least, operation
from kluis.services.ledger.callers import BUILT_IN, PREFIX, Role, Roles, User, canonical_id, require_role
from kluis.services.ledger.node import Node
from kluis.services.ledger.running.engine import Result
from kluis.services.ledger.tables import ROLES, USERS
from kluis.services.web import Answer, Call, Operation, Refusal

ADMINISTRATOR: Final = "Administrator"
ID: Final = re.compile(
    r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}"
)
NAME: Final = re.compile(r"[0-9A-Za-z_.-]{1,64}")
ACTION: Final = re.compile(r"[0-9A-Za-z_./:*-]{1,200}")
MOST_ROLES: Final = 100
MOST_ACTIONS: Final = 100
PAGE: Final = 1000


class OneRole(msgspec.Struct):
    """What a client writes of a user."""

    assignedRole: str  # noqa: N815 - the API's own word


class ManyRoles(msgspec.Struct):
    """The same, of a user with several roles."""

    assignedRoles: list[str]  # noqa: N815 - the API's own word


class Users:
    """The operations on users and roles.

    Args:
        node: the ledger's.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def operations(self) -> tuple[Operation, ...]:
        """The operations."""
        one, many, roles = "/app/users/{userId*}", "/app/ledgerUsers/{userId*}", "/app/roles"
        read, write, define, page = "/users/read", "/users/write", "/roles/write", {"after": False}
        return (
            operation("ListUsers", "GET", "/app/users", PREVIEW, self.users, read, page),
            operation("GetUser", "GET", one, STABLE, self.user, read),
            operation("CreateOrUpdateUser", "PATCH", one, STABLE, self.put_user, write, body=OneRole),
            operation("DeleteUser", "DELETE", one, STABLE, self.delete, write, status=204),
            operation("ListLedgerUsers", "GET", "/app/ledgerUsers", PREVIEW, self.ledger_users, read, page),
            operation("GetLedgerUser", "GET", many, PREVIEW, self.ledger_user, read),
            operation(
                "CreateOrUpdateLedgerUser",
                "PATCH",
                many,
                PREVIEW,
                self.put_ledger_user,
                write,
                body=ManyRoles,
            ),
            operation("DeleteLedgerUser", "DELETE", many, PREVIEW, self.delete, write, status=204),
            operation(
                "GetUserDefinedRole", "GET", roles, PREVIEW, self.role, "/roles/read", {"roleName": True}
            ),
            operation("CreateUserDefinedRole", "PUT", roles, PREVIEW, self.put_roles, define, body=Roles),
            operation("UpdateUserDefinedRole", "PATCH", roles, PREVIEW, self.patch_roles, define, body=Roles),
            operation(
                "DeleteUserDefinedRole",
                "DELETE",
                roles,
                PREVIEW,
                self.delete_role,
                define,
                {"roleName": True},
            ),
        )

    async def users(self, call: Call) -> Answer:
        """All users, with one role each."""
        return await self._list(call, _single)

    async def ledger_users(self, call: Call) -> Answer:
        """All users, with their roles."""
        return await self._list(call, _several)

    async def user(self, call: Call) -> Answer:
        """A user, with one role."""
        return await self._one(call, _single)

    async def ledger_user(self, call: Call) -> Answer:
        """A user, with its roles."""
        return await self._one(call, _several)

    async def put_user(self, call: Call) -> Answer:
        """Add a user, or give it another role."""
        return await self._put(call, (call.json(OneRole).assignedRole,), _single)

    async def put_ledger_user(self, call: Call) -> Answer:
        """Add a user, or give it other roles."""
        return await self._put(call, tuple(dict.fromkeys(call.json(ManyRoles).assignedRoles)), _several)

    async def delete(self, call: Call) -> Answer:
        """Take a user away."""
        user = _id(call)

        def work(state: Transaction) -> Result:
            require_role(state, call.caller, "/users/write")
            if state.has(USERS, user.encode()):
                _keep_an_administrator(state, user, ())
                state.remove(USERS, user.encode())
            return Result(None)

        written = await self._node.engine.write(work)
        return Answer(None, 204, headers={HEADER: str(written.txid)})

    async def role(self, call: Call) -> Answer:
        """A role that users defined, and what it allows."""
        name = _role_name(call)

        def work(state: Transaction) -> Role | None:
            row = state.get(ROLES, name.encode())
            if row is not None:
                return msgspec.json.decode(row, type=Role)
            return (
                Role(name, tuple(sorted(f"{PREFIX}{one}" for one in BUILT_IN[name])))
                if name in BUILT_IN
                else None
            )

        read = await self._node.engine.read(work)
        if read.value is None:
            raise Refusal(404, "RoleNotFound", f"role {name}: there is none")
        return Answer({"role" if at_least(call, GA) else "roles": [read.value]})

    async def put_roles(self, call: Call) -> Answer:
        """Define roles."""
        return await self._write_roles(call, there=False)

    async def patch_roles(self, call: Call) -> Answer:
        """Replace what roles allow that are there."""
        return await self._write_roles(call, there=True)

    async def delete_role(self, call: Call) -> Answer:
        """Take a role away; its users have it no more."""
        name = _role_name(call)
        _refuse_built_in(name)

        def work(state: Transaction) -> Result:
            require_role(state, call.caller, "/roles/write")
            state.remove(ROLES, name.encode())
            return Result(None)

        written = await self._node.engine.write(work)
        status = 204 if at_least(call, GA) else 200
        return Answer(None, status, headers={HEADER: str(written.txid)})

    async def _list(self, call: Call, shape: Callable[[str, User], dict[str, Any]]) -> Answer:
        after = call.query.get("after", "")

        def work(state: Transaction) -> list[tuple[bytes, bytes]]:
            rows = []
            for key, value in state.items(USERS, after.encode() + b"\0" if after else b""):
                rows.append((key, value))
                if len(rows) > PAGE:
                    break
            return rows

        read = await self._node.engine.read(work)
        listed = read.value[:PAGE]
        body: dict[str, Any] = {
            "ledgerUsers": [shape(key.decode(), _read_user(value)) for key, value in listed]
        }
        if len(read.value) > PAGE:
            version = call.query["api-version"]
            body["nextLink"] = f"{call.target}?api-version={version}&after={listed[-1][0].decode()}"
        return Answer(body)

    async def _one(self, call: Call, shape: Callable[[str, User], dict[str, Any]]) -> Answer:
        user = _id(call)
        read = await self._node.engine.read(lambda state: state.get(USERS, user.encode()))
        if read.value is None:
            raise Refusal(404, "UserNotFound", f"user {user}: is not one of this ledger")
        return Answer(shape(user, _read_user(read.value)))

    async def _put(
        self, call: Call, roles: tuple[str, ...], shape: Callable[[str, User], dict[str, Any]]
    ) -> Answer:
        user = _id(call)
        if not 0 < len(roles) <= MOST_ROLES:
            raise Refusal(400, "InvalidRole", f"roles: want 1..{MOST_ROLES}, got {len(roles)}")

        def work(state: Transaction) -> Result:
            require_role(state, call.caller, "/users/write")
            for role in roles:
                if role not in BUILT_IN and not state.has(ROLES, role.encode()):
                    raise Refusal(
                        400,
                        "InvalidRole",
                        f"role: want {', '.join(BUILT_IN)} or a defined one, got {role[:64]!a}",
                    )
            _keep_an_administrator(state, user, roles)
            state.put(USERS, user.encode(), msgspec.json.encode(User(roles)))
            return Result(None)

        written = await self._node.engine.write(work)
        return Answer(shape(user, User(roles)), headers={HEADER: str(written.txid)})

    async def _write_roles(self, call: Call, *, there: bool) -> Answer:
        defined = call.json(Roles)
        if not 0 < len(defined.roles) <= MOST_ROLES:
            raise Refusal(400, "InvalidRole", f"roles: want 1..{MOST_ROLES}, got {len(defined.roles)}")
        for role in defined.roles:
            _check_role(role)

        def work(state: Transaction) -> Result:
            require_role(state, call.caller, "/roles/write")
            for role in defined.roles:
                if there and not state.has(ROLES, role.roleName.encode()):
                    raise Refusal(404, "RoleNotFound", f"role {role.roleName}: there is none")
                state.put(ROLES, role.roleName.encode(), msgspec.json.encode(role))
            return Result(None)

        written = await self._node.engine.write(work)
        body: Any = defined if at_least(call, GA) else {}
        return Answer(body, headers={HEADER: str(written.txid)})


def _single(user: str, kept: User) -> dict[str, Any]:
    """A user, with the role that allows most."""
    ranked = [role for role in reversed(list(BUILT_IN)) if role in kept.assignedRoles]
    return {"userId": user, "assignedRole": (ranked or list(kept.assignedRoles))[0]}


def _read_user(value: bytes) -> User:
    return msgspec.json.decode(value, type=User)


def _several(user: str, kept: User) -> dict[str, Any]:
    return {"userId": user, "assignedRoles": kept.assignedRoles}


def _id(call: Call) -> str:
    user = call.path["userId"]
    if ID.fullmatch(user) is None:
        raise Refusal(
            400, "InvalidUserId", f"user: want an object id or a certificate's fingerprint, got {user[:80]!a}"
        )
    return canonical_id(user)


def _role_name(call: Call) -> str:
    name = call.query.get("roleName")
    if name is None or NAME.fullmatch(name) is None:
        raise Refusal(400, "InvalidRole", "roleName: want letters, digits, - . and _, at most 64")
    return name


def _check_role(role: Role) -> None:
    if NAME.fullmatch(role.roleName) is None:
        raise Refusal(400, "InvalidRole", "roleName: want letters, digits, - . and _, at most 64")
    _refuse_built_in(role.roleName)
    if len(role.roleActions) > MOST_ACTIONS or any(ACTION.fullmatch(one) is None for one in role.roleActions):
        raise Refusal(400, "InvalidRole", f"roleActions: want at most {MOST_ACTIONS}, such as /content/read")


def _refuse_built_in(name: str) -> None:
    if name in BUILT_IN:
        raise Refusal(400, "InvalidRole", f"role {name}: is built in, and cannot be changed")


def _keep_an_administrator(state: Transaction, user: str, roles: tuple[str, ...]) -> None:
    if ADMINISTRATOR in roles:
        return
    row = state.get(USERS, user.encode())
    if row is None or ADMINISTRATOR not in _read_user(row).assignedRoles:
        return
    for key, value in state.items(USERS):
        if key != user.encode() and ADMINISTRATOR in _read_user(value).assignedRoles:
            return
    raise Refusal(400, "LastAdministrator", f"user {user}: is the last administrator of this ledger")
